/*-------------------------------------------------------------------------
 *
 * array.c
 *		Optional array arguments, with one element a message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "api/array.h"


/* Check each element that is not null. */
void
queue_array_check(const OptionalArray *array, int n, void (*check) (Datum))
{
	for (int i = 0; array->values != NULL && i < n; i++)
	{
		if (!array->nulls[i])
			check(array->values[i]);
	}
}

/* Is there an element that is not null? */
bool
queue_array_has_values(const OptionalArray *array, int n)
{
	for (int i = 0; array->values != NULL && i < n; i++)
	{
		if (!array->nulls[i])
			return true;
	}
	return false;
}

/*
 * queue_array_read
 *		Read an optional array, which must have one element a message.
 */
void
queue_array_read(FunctionCallInfo fcinfo, int argno, const char *name,
				 const char *beside, int expected, OptionalArray *array)
{
	ArrayType  *arg;
	int			nvalues;

	array->values = NULL;
	array->nulls = NULL;
	if (PG_ARGISNULL(argno))
		return;
	arg = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(arg) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a one-dimensional array", name)));
	/* text and jsonb are laid out alike */
	deconstruct_array(arg, ARR_ELEMTYPE(arg), -1, false, TYPALIGN_INT,
					  &array->values, &array->nulls, &nvalues);
	if (nvalues != expected)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arrays must have the same length"),
				 errdetail("There are %d %s, but %d %s.",
						   expected, beside, nvalues, name),
				 errhint("Put NULL where a message has none.")));
}

/* Return what the array has for this message. */
NullableDatum
queue_array_element(const OptionalArray *array, int i)
{
	NullableDatum result = {0, true};

	if (array->values != NULL && !array->nulls[i])
	{
		result.value = array->values[i];
		result.isnull = false;
	}
	return result;
}
