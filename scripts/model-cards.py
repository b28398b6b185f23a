#!/usr/bin/python3
"""model-cards.py BUILD TRAINING: evaluates the models of datasets/models and writes their cards there.

TRAINING is the folder of `make train`: its models are taken over first, its logs give steps and losses.
Every figure comes from a command that the card names; what a command printed is kept under
BUILD/model-cards and asked again when the program's model has changed."""
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import h5py
import numpy

BUILD, TRAINING = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
MODELS, KEPT = pathlib.Path("datasets/models"), BUILD / "model-cards"
RUVLTRA, CORPUS = f"{BUILD}/bin/ruvltra", f"{BUILD}/bin/corpus"
TEXT = KEPT / "text"
HELD_OUT_SEED = 777  # of text that the models have not seen; training's is in scripts/train/full.conf

ABOUT = {
    "nano": "The model every experiment uses when none is named.",
    "pico": "A draft for nano: it learned nano's distribution, and shares its vocabulary.",
    "coder": "A LoRA adapter for nano, for programs: `--variant coder`.",
    "agent": "A LoRA adapter for nano, for choosing the agent that should act: `--variant agent`.",
}
STAGES = {"nano": ["pretrained", "nano"]}  # of training, in turn; of the others one of their own name
BARS = {  # what was aimed at: set, in %, the task that is held against it
    "nano": [("mini-mmlu", 60, "mmlu_continuation"), ("held-out routing", 80, "routing_heldout"),
             ("mini-gsm8k", 50, "gsm8k"), ("mini-humaneval", 40, "humaneval")],
}
METRIC = {
    "mmlu": "acc,none",
    "mmlu_continuation": "acc_norm,none",
    "gsm8k": "exact_match,strict-match",
    "humaneval": "pass@1,create_test",
    "truthfulqa_mc1": "acc,none",
    "truthfulqa_mc2": "acc,none",
    "routing": "acc,none",
    "routing_heldout": "acc,none",
    "routing_requests": "acc,none",
}


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def asked(name, command, *depends):
    """The JSON a command prints, kept until the files it depends on change."""
    kept = KEPT / f"{name}.json"
    key = " ".join([command] + [sha256(d) for d in depends])
    if kept.exists():
        old = json.loads(kept.read_text())
        if old["key"] == key:
            return old["result"]
    print(f"model-cards: {command}", file=sys.stderr)
    out = subprocess.run(command.split() + ["--json"], stdout=subprocess.PIPE, check=True).stdout
    result = json.loads(out)
    kept.write_text(json.dumps({"key": key, "result": result}))
    return result


def log_of(name):
    """Columns of the training log, by step."""
    path = TRAINING / "logs" / f"{name}.h5"
    if not path.exists():
        return None
    with h5py.File(path) as f:
        samples = {m: rows[()] for m, rows in next(iter(f["samples"].values())).items()}
    n = int(samples["step"]["repetition"].max()) + 1
    columns = {}
    for metric, rows in samples.items():
        columns[metric] = numpy.full(n, numpy.nan)
        columns[metric][rows["repetition"]] = rows["value"]
    return columns


def metric_of(results, task):
    values = results["results"][task]
    key = METRIC[task] if METRIC[task] in values else next(
        k for k in values if "," in k and not k.startswith(("alias", METRIC[task].split(",")[0] + "_stderr")) and "stderr" not in k)
    stem, kind = key.split(",", 1)
    return key, values[key], values.get(f"{stem}_stderr,{kind}")


def score_table(results, base=None):
    rows = ["| task | metric | score, % | standard error |" + (" base |" if base else ""),
            "|---|---|---|---|" + ("---|" if base else "")]
    for task in results["results"]:
        if task not in METRIC:
            continue
        key, value, error = metric_of(results, task)
        metric = key.removesuffix(",none").replace(",", ", ")
        row = f"| {task} | {metric} | {100 * value:.1f} | {100 * error:.1f} |" if isinstance(error, float) \
            else f"| {task} | {metric} | {100 * value:.1f} | |"
        if base:
            row += f" {100 * metric_of(base, task)[1]:.1f} |"
        rows.append(row)
    return rows


def bars(name, results):
    lines = []
    for what, bar, task in BARS.get(name, []):
        _, value, _ = metric_of(results, task)
        lines.append(f"| {what} | {task} | {bar} | {100 * value:.1f} | {'reached' if 100 * value >= bar else 'not reached'} |")
    if not lines:
        return []
    return ["", "| aimed at | judged on | at least, % | score, % | |", "|---|---|---|---|---|"] + lines + [
        "", "mini-mmlu is judged on the harness's form that asks for the choice itself (mmlu_continuation), as OLMES "
        "recommends for small models. Asked for the letter of a list (mmlu), the score is "
        f"{100 * metric_of(results, 'mmlu')[1]:.1f} %, chance 25 %."]


def command_of(name):
    for line in pathlib.Path("scripts/train/full.conf").read_text().splitlines():
        if line.startswith(f"model {name} "):
            return line
    sys.exit(f"model-cards: scripts/train/full.conf has no model {name}")


def figure_of(name, stage):
    return name if stage == name else f"{name}-{stage}"


def stage_log(name, stage, log):
    steps = len(log["step"])
    seconds = sum(t for t in (log["tokens"][1:] - log["tokens"][:-1]) / log["tok_s"][1:])
    lines = [f"{steps} steps, {log['tokens'].max() / 1e6:.2f} M tokens, about {seconds / 60:.0f} minutes "
             f"(median {sorted(log['tok_s'])[steps // 2]:.0f} tokens/s)."]
    last = []
    for metric in sorted(log):
        if metric.startswith("valid_") and metric != "valid_mean":
            known = [v for v in log[metric] if v == v]
            if known:
                last.append(f"{metric[6:]} {known[-1]:.3f}")
    if last:
        lines.append("Cross-entropy of held-out text at the end, nats a token: " + ", ".join(last) + ".")
    return lines + ["", f"![loss by tokens]({figure_of(name, stage)}.svg)"]


def training(name):
    stages = STAGES.get(name, [name])
    wanted = name if len(stages) == 1 else f"'{' '.join(stages)}'"
    what = "this line" if len(stages) == 1 else f"these {len(stages)} lines, one after the other,"
    lines = ["", "## Training", "", f"`make train STAGES={wanted}`, which runs {what} of scripts/train/full.conf:"]
    for stage in stages:
        log = log_of(stage)
        lines += ["", "    " + command_of(stage)]
        if log is not None:
            lines += [""] + stage_log(name, stage, log)
    return lines


def plot(name, stage):
    log = log_of(stage)
    if log is None:
        return
    figure = figure_of(name, stage)
    tsv = KEPT / f"{figure}.tsv"
    steps = len(log["step"])
    group = max(1, steps // 400)
    with tsv.open("w") as f:
        f.write("tokens\tloss\tvalid\n")
        for i in range(0, steps - group + 1, group):
            losses = sorted(log["cross_entropy"][i:i + group])
            valid = [v for v in log["valid_mean"][i:i + group] if v == v] if "valid_mean" in log else []
            f.write(f"{log['tokens'][i + group - 1] / 1e6}\t{losses[len(losses) // 2]}\t{valid[-1] if valid else 'NaN'}\n")
    title = name if stage == name and len(STAGES.get(name, [name])) == 1 else f"{name}, stage {stage}"
    subprocess.run(["gnuplot", "-e", f"data='{tsv}'; out='{MODELS / figure}'; name='{title}'",
                    "scripts/plots/training.gp"], check=True)


def held_out_text(kinds, size):
    folder = TEXT / "-".join(kinds)
    if not folder.exists():
        subprocess.run([CORPUS, "train", "--out", str(folder), "--seed", str(HELD_OUT_SEED), "--bytes", str(size),
                        "--kinds", ",".join(kinds), "--quiet"], check=True)
    return folder


def by_position(name, path):
    text = held_out_text(["longdocs"], 400000) / "longdocs.txt"
    command = f"{RUVLTRA} perplexity -m {path} -f {text} -c 4096 --by-position"
    result = asked(f"{name}-positions", command, path, text)
    lines = ["", "## Perplexity by position", "", "Of held-out long documents, by how many tokens stand before:", "",
             f"    {CORPUS} train --out {text.parent} --seed {HELD_OUT_SEED} --bytes 400000 --kinds longdocs",
             f"    {command}", "", "| tokens before | perplexity | standard error | positions |", "|---|---|---|---|"]
    for row in result["by_position"]:
        lines.append(f"| {row['from']} to {row['to'] - 1} | {row['ppl']['value']:.3f} | {row['ppl']['se']:.3f} | {row['n']} |")
    return lines


def drafts(path):
    kinds = ["encyclopaedia", "arithmetic", "python", "routing", "stories", "questions"]
    folder = held_out_text(kinds, 100000)
    whole = folder / "all.txt"
    whole.write_bytes(b"".join((folder / f"{k}.txt").read_bytes() for k in kinds))
    target = MODELS / "nano.gguf"
    command = f"{RUVLTRA} eval draft -m {target} --draft {path} -f {whole} --k 4"
    r = asked("pico-draft", command, path, target, whole)
    return ["", "## As a draft of nano", "", "Greedy agreement, position by position, on held-out text, 4 tokens drafted:", "",
            f"    {CORPUS} train --out {folder} --seed {HELD_OUT_SEED} --bytes 100000 --kinds {','.join(kinds)}",
            f"    cat {folder}/{{{','.join(kinds)}}}.txt > {whole}", f"    {command}", "",
            f"accepted / drafted {100 * r['accepted_drafted']['value']:.1f} % "
            f"(standard error {100 * r['accepted_drafted']['se']:.1f}; aimed at: at least 60); "
            f"a step of pico takes {r['steps']['draft_ratio']:.3f} of nano's (aimed at: at most 0.25)."]


def card(name):
    path = MODELS / f"{name}.gguf"
    info = asked(f"{name}-info", f"{RUVLTRA} info -m {path}", path) if name in ("nano", "pico") else None
    lines = [f"# {name}", "", ABOUT[name], "",
             f"`{path}`, {path.stat().st_size / 1e6:.2f} MB, F16, SHA-256 `{sha256(path)}`."]
    if info:
        lines.append(f"Architecture {info['architecture']}, {info['n_params'] / 1e6:.2f} M parameters.")
    lines += ["", "Trained from random weights (adapters: beside nano's) on the text of datasets/corpus alone: a generated, "
              "fictional world, small sums, small programs, requests and stories. It knows nothing else, and its English "
              "is that of the generator. For experiments and tests, not for use."]
    lines += training(name)
    if name in ("nano", "pico"):
        command = f"{RUVLTRA} eval all -m {path}"
        results = asked(f"{name}-eval", command, path)
        lines += ["", "## Evaluation", "", "Greedy, on the sets of datasets/:", "", f"    {command}", ""] + score_table(results)
        lines += bars(name, results)
        lines += by_position(name, path)
    else:
        base = asked("nano-eval", f"{RUVLTRA} eval all -m {MODELS / 'nano.gguf'}", MODELS / "nano.gguf")
        command = f"{RUVLTRA} eval all -m {MODELS / 'nano.gguf'} --lora {path}"
        results = asked(f"{name}-eval", command, path, MODELS / "nano.gguf")
        lines += ["", "## Evaluation", "", "Greedy, on the sets of datasets/, beside nano without it:", "", f"    {command}", ""]
        lines += score_table(results, base)
        lines += ["", "Paired tests against nano, item by item, are experiment T3's (`make experiments ONLY=T3`)."]
    if name == "pico":
        lines += drafts(path)
    (MODELS / f"{name}.md").write_text("\n".join(lines) + "\n")


def main():
    MODELS.mkdir(exist_ok=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    names = [n for n in ABOUT if (TRAINING / "models" / f"{n}.gguf").exists() or (MODELS / f"{n}.gguf").exists()]
    for name in names:
        trained = TRAINING / "models" / f"{name}.gguf"
        if trained.exists():
            shutil.copyfile(trained, MODELS / f"{name}.gguf")
        for stage in STAGES.get(name, [name]):
            plot(name, stage)
    for name in names:
        card(name)


main()
