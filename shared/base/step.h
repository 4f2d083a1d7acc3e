/* Named points between the steps that touch shared memory or a durable file. */
#pragma once

#define STEP(name) ((void)0)
