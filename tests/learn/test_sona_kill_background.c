/* The background loop, killed at every write. */
#include "tests/learn/sona_kill.h"

static void background_killed_at_every_write(void **state) {
	(void)state;
	kill_everywhere(RV_SONA_BACKGROUND);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(background_killed_at_every_write),
	};
	return cmocka_run_group_tests(tests, begin, finish);
}
