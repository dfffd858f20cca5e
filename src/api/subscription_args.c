/*-------------------------------------------------------------------------
 *
 * subscription_args.c
 *		Settings of a subscription, as arguments of functions.
 *
 * A setting is one line in the table below, as in setting_args.c.  In
 * alter_subscription() a null leaves a setting as it is; no idle_after is said
 * by zero, and no selector by one that all messages match.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/setting_args.h"
#include "api/subscription_args.h"
#include "common/args.h"
#include "table/pattern.h"
#include "table/selector.h"
#include "table/subscription_settings.h"

typedef struct SubscriptionArg
{
	int			attnum;			/* in queue.subscription */
	const char *name;
	int			create_arg;		/* argument of subscribe() */
	int			alter_arg;		/* ... and of alter_subscription() */
	bool		is_required;
} SubscriptionArg;

static const SubscriptionArg subscription_args[] = {
	{Anum_subscription_pattern, "pattern", 5, 1, true},
	{Anum_subscription_selector, "selector", 6, 2, false},
	{Anum_subscription_on_failure, "on_failure", 7, 3, true},
	{Anum_subscription_on_gap, "on_gap", 8, 4, true},
	{Anum_subscription_idle_after, "idle_after", 9, 5, false},
	{Anum_subscription_lease, "lease", 10, 6, true},
	{Anum_subscription_max_attempts, "max_attempts", 11, 7, true},
	{Anum_subscription_retry_delay, "retry_delay", 12, 8, true},
	{Anum_subscription_retry_max_delay, "retry_max_delay", 13, 9, true},
	{Anum_subscription_dead_letter, "dead_letter", 14, 10, false},
};

static void set_value(const SubscriptionArg *arg, Datum value, Datum *values,
					  bool *nulls);
static void check_word(Datum value, const char *name, const char *one,
					   const char *other);


/* Read the arguments of subscribe() into the row of a new subscription. */
void
queue_subscription_args_create(FunctionCallInfo fcinfo, Datum *values,
							   bool *nulls)
{
	memset(nulls, true, Natts_subscription * sizeof(bool));
	for (int i = 0; i < lengthof(subscription_args); i++)
	{
		const SubscriptionArg *arg = &subscription_args[i];

		if (arg->is_required)
			queue_require_arg(fcinfo, arg->create_arg, arg->name);
		if (!PG_ARGISNULL(arg->create_arg))
			set_value(arg, PG_GETARG_DATUM(arg->create_arg), values, nulls);
	}
	values[Anum_subscription_own_dead_letter - 1] =
		BoolGetDatum(nulls[Anum_subscription_dead_letter - 1]);
	nulls[Anum_subscription_own_dead_letter - 1] = false;
	values[Anum_subscription_paused - 1] = BoolGetDatum(false);
	nulls[Anum_subscription_paused - 1] = false;
	queue_subscription_args_check(values, nulls);
}

/* Put the arguments of alter_subscription() into the row of a subscription. */
void
queue_subscription_args_alter(FunctionCallInfo fcinfo, Datum *values,
							  bool *nulls)
{
	const int	column = Anum_subscription_dead_letter - 1;
	bool		had_none = nulls[column];
	Oid			old = had_none ? InvalidOid : DatumGetObjectId(values[column]);

	for (int i = 0; i < lengthof(subscription_args); i++)
	{
		const SubscriptionArg *arg = &subscription_args[i];

		if (!PG_ARGISNULL(arg->alter_arg))
			set_value(arg, PG_GETARG_DATUM(arg->alter_arg), values, nulls);
	}

	/* if it is given the one that it has, that stays its own */
	if (queue_subscription_args_given(fcinfo, Anum_subscription_dead_letter) &&
		(had_none || DatumGetObjectId(values[column]) != old))
		values[Anum_subscription_own_dead_letter - 1] = BoolGetDatum(false);
	queue_subscription_args_check(values, nulls);
}

/* Returns true if a call of alter_subscription() gives this setting. */
bool
queue_subscription_args_given(FunctionCallInfo fcinfo, int attnum)
{
	for (int i = 0; i < lengthof(subscription_args); i++)
	{
		if (subscription_args[i].attnum == attnum)
			return !PG_ARGISNULL(subscription_args[i].alter_arg);
	}
	return false;
}

/* Put a value that is given into a row; zero is no idle_after. */
static void
set_value(const SubscriptionArg *arg, Datum value, Datum *values, bool *nulls)
{
	values[arg->attnum - 1] = value;
	nulls[arg->attnum - 1] = arg->attnum == Anum_subscription_idle_after &&
		queue_interval_usec(DatumGetIntervalP(value), arg->name) == 0;
}

/* Raise 22023 for a value that no subscription may have. */
void
queue_subscription_args_check(const Datum *values, const bool *nulls)
{
	char	   *pattern =
		TextDatumGetCString(values[Anum_subscription_pattern - 1]);
	int64		lease;

	queue_pattern_free(queue_pattern_compile(pattern, strlen(pattern)));
	if (!nulls[Anum_subscription_selector - 1])
		queue_selector_free(queue_selector_make(values[Anum_subscription_selector - 1],
												false /* raises */ ));
	check_word(values[Anum_subscription_on_failure - 1], "on_failure",
			   SUBSCRIPTION_DEAD_LETTERS, SUBSCRIPTION_HOLDS);
	check_word(values[Anum_subscription_on_gap - 1], "on_gap",
			   SUBSCRIPTION_FAILS, SUBSCRIPTION_SKIPS);
	if (!nulls[Anum_subscription_idle_after - 1])
		(void) queue_interval_usec(DatumGetIntervalP(values[Anum_subscription_idle_after - 1]),
								   "idle_after");
	lease = queue_setting_args_retries(values[Anum_subscription_lease - 1],
									   values[Anum_subscription_max_attempts - 1],
									   values[Anum_subscription_retry_delay - 1],
									   values[Anum_subscription_retry_max_delay - 1]);
	if (lease > SUBSCRIPTION_MAX_LEASE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease is longer than a subscription allows"),
				 errdetail("The longest is one day.")));
}

/* Raise 22023 unless this is one of two words. */
static void
check_word(Datum value, const char *name, const char *one, const char *other)
{
	char	   *word = TextDatumGetCString(value);

	if (strcmp(word, one) != 0 && strcmp(word, other) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s: \"%s\"", name, word),
				 errdetail("Allowed are: %s, %s.", one, other)));
}
