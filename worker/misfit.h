/* What does not fit a schema, as clients are told. */
#pragma once

#include "shared/schema/schema.h"
#include "worker/exchange.h"

/* In the exchange's arena; in the order of the errors. */
const struct api_detail *misfit_details(struct exchange *ex, const struct schema_errors *errors);
/* The one thing that is wrong: with the whole value. The texts are not copied. */
const struct api_detail *misfit_detail(struct exchange *ex, const char *keyword,
                                       const char *message);
