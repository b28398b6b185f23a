/* A teacher that has learnt: the model of rv_trainer_create's teacher with an adapter on it. */
#ifndef RV_LEARN_TRAIN_TEACHER_H
#define RV_LEARN_TRAIN_TEACHER_H

#include "learn/trainer.h"

/* The teacher's weights become W + scale alpha / rank B A of each matrix the adapter has, for good.
 * RV_ERR_INVALID: the trainer has no teacher; RV_ERR_MISMATCH names a matrix of another shape, and
 * nothing changed. */
rv_status rv_trainer_adapt_teacher(rv_trainer *t, const rv_adapter *adapter, double scale);

#endif
