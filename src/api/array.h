/*-------------------------------------------------------------------------
 *
 * array.h
 *		Optional array arguments, with one element a message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_API_ARRAY_H
#define QUEUE_API_ARRAY_H

#include "fmgr.h"

typedef struct OptionalArray
{
	Datum	   *values;			/* NULL: not given */
	bool	   *nulls;
} OptionalArray;

/*
 * Read argument "argno", which has this name, and as many elements as the array
 * beside it, 22023
 */
extern void queue_array_read(FunctionCallInfo fcinfo, int argno,
							 const char *name, const char *beside,
							 int expected, OptionalArray *array);

/* Check each element that is not null */
extern void queue_array_check(const OptionalArray *array, int n,
							  void (*check) (Datum));

/* Is there an element that is not null? */
extern bool queue_array_has_values(const OptionalArray *array, int n);

/* What the array has for this message */
extern NullableDatum queue_array_element(const OptionalArray *array, int i);

#endif							/* QUEUE_API_ARRAY_H */
