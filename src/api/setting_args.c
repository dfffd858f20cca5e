/*-------------------------------------------------------------------------
 *
 * setting_args.c
 *		Settings of a queue, as arguments of create_queue() and alter_queue().
 *
 * A setting is one line in the table below; both functions read it by that.  In
 * alter_queue() a null leaves a setting as it is.  So where a queue may have
 * none of something, there is a value that says so: zero, or for dedup_window,
 * where zero means something, what is less.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "api/setting_args.h"
#include "common/args.h"
#include "common/compat.h"
#include "table/choice.h"
#include "table/settings.h"

/* What a setting is like */
typedef enum SettingKind
{
	SETTING_REQUIRED,			/* every queue has one */
	SETTING_WORD,				/* ... of a few words */
	SETTING_QUEUE,				/* a queue, or none */
	SETTING_SPAN,				/* a time; zero: none */
	SETTING_WINDOW,				/* a time, zero too; negative: none */
	SETTING_LIMIT,				/* a number; zero: none */
	SETTING_SMALL_LIMIT			/* the same, an int */
} SettingKind;

typedef struct SettingArg
{
	int			attnum;			/* in queue.queue */
	const char *name;
	int			create_arg;		/* argument of create_queue() */
	int			alter_arg;		/* ... and of alter_queue() */
	SettingKind kind;
} SettingArg;

static const SettingArg setting_args[] = {
	{Anum_settings_lease, "lease", 1, 1, SETTING_REQUIRED},
	{Anum_settings_max_attempts, "max_attempts", 2, 2, SETTING_REQUIRED},
	{Anum_settings_retry_delay, "retry_delay", 3, 3, SETTING_REQUIRED},
	{Anum_settings_retry_max_delay, "retry_max_delay", 4, 4, SETTING_REQUIRED},
	{Anum_settings_dead_letter, "dead_letter", 5, 5, SETTING_QUEUE},
	{Anum_settings_max_lease, "max_lease", 8, 6, SETTING_REQUIRED},
	{Anum_settings_expires_in, "expires_in", 9, 7, SETTING_SPAN},
	{Anum_settings_on_expiry, "on_expiry", 10, 8, SETTING_WORD},
	{Anum_settings_group_mode, "group_mode", 11, 9, SETTING_WORD},
	{Anum_settings_group_failure, "group_failure", 12, 10, SETTING_WORD},
	{Anum_settings_dedup_window, "dedup_window", 13, 11, SETTING_WINDOW},
	{Anum_settings_max_messages, "max_messages", 14, 12, SETTING_LIMIT},
	{Anum_settings_max_bytes, "max_bytes", 15, 13, SETTING_LIMIT},
	{Anum_settings_on_full, "on_full", 16, 14, SETTING_WORD},
	{Anum_settings_max_in_flight, "max_in_flight", 17, 15, SETTING_SMALL_LIMIT},
};

static void set_value(const SettingArg *arg, Datum value, Datum *values,
					  bool *nulls);
static bool means_none(const SettingArg *arg, Datum value);
static void check_base(const Datum *values);
static void check_value(const SettingArg *arg, Datum value);
static bool is_negative(const Interval *span);


/* Read the arguments of create_queue() into the row of a new queue. */
void
queue_setting_args_create(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	memset(nulls, true, Natts_settings * sizeof(bool));
	for (int i = 0; i < lengthof(setting_args); i++)
	{
		const SettingArg *arg = &setting_args[i];

		if (arg->kind == SETTING_REQUIRED || arg->kind == SETTING_WORD)
			queue_require_arg(fcinfo, arg->create_arg, arg->name);
		if (!PG_ARGISNULL(arg->create_arg))
			set_value(arg, PG_GETARG_DATUM(arg->create_arg), values, nulls);
	}
	values[Anum_settings_own_dead_letter - 1] =
		BoolGetDatum(nulls[Anum_settings_dead_letter - 1]);
	nulls[Anum_settings_own_dead_letter - 1] = false;
	values[Anum_settings_enqueue_paused - 1] = BoolGetDatum(false);
	nulls[Anum_settings_enqueue_paused - 1] = false;
	values[Anum_settings_dequeue_paused - 1] = BoolGetDatum(false);
	nulls[Anum_settings_dequeue_paused - 1] = false;
	check_base(values);
}

/* Put the arguments of alter_queue() into the row of a queue. */
void
queue_setting_args_alter(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	for (int i = 0; i < lengthof(setting_args); i++)
	{
		const SettingArg *arg = &setting_args[i];

		if (PG_ARGISNULL(arg->alter_arg))
			continue;

		/* if it is given the one that it has, that stays its own */
		if (arg->kind == SETTING_QUEUE &&
			(nulls[arg->attnum - 1] ||
			 DatumGetObjectId(values[arg->attnum - 1]) !=
			 PG_GETARG_OID(arg->alter_arg)))
			values[Anum_settings_own_dead_letter - 1] = BoolGetDatum(false);
		set_value(arg, PG_GETARG_DATUM(arg->alter_arg), values, nulls);
	}
	check_base(values);
}

/* Returns true if a call of alter_queue() gives this setting. */
bool
queue_setting_args_given(FunctionCallInfo fcinfo, int attnum)
{
	for (int i = 0; i < lengthof(setting_args); i++)
	{
		if (setting_args[i].attnum == attnum)
			return !PG_ARGISNULL(setting_args[i].alter_arg);
	}
	return false;
}

/*
 * queue_setting_args_dead
 *		Make the row of a queue that of the dead-letter queue that comes with
 *		it.
 *
 * It has no limit of attempts, because there is nowhere to move its messages
 * to, and no other limit: a dead letter always finds room, whenever it comes
 * and in whatever order.
 */
void
queue_setting_args_dead(Datum *values, bool *nulls)
{
	values[Anum_settings_max_attempts - 1] = Int32GetDatum(0);
	values[Anum_settings_own_dead_letter - 1] = BoolGetDatum(false);
	nulls[Anum_settings_key_table - 1] = true;
	for (int i = 0; i < lengthof(setting_args); i++)
	{
		const SettingArg *arg = &setting_args[i];

		if (arg->kind == SETTING_WORD)
			values[arg->attnum - 1] =
				CStringGetTextDatum(queue_choice_default(arg->attnum));
		else if (arg->kind != SETTING_REQUIRED)
			nulls[arg->attnum - 1] = true;
	}
	values[Anum_settings_group_mode - 1] = CStringGetTextDatum("none");
}

/* Raise 22023 unless a row of queue.queue is valid. */
void
queue_setting_args_check(const Datum *values, const bool *nulls)
{
	check_base(values);
	for (int i = 0; i < lengthof(setting_args); i++)
	{
		const SettingArg *arg = &setting_args[i];

		if (!nulls[arg->attnum - 1])
			check_value(arg, values[arg->attnum - 1]);
	}
}

/* Put a value that is given into a row. */
static void
set_value(const SettingArg *arg, Datum value, Datum *values, bool *nulls)
{
	check_value(arg, value);
	nulls[arg->attnum - 1] = means_none(arg, value);
	values[arg->attnum - 1] = nulls[arg->attnum - 1] ? (Datum) 0 : value;
}

/* Returns true if the value says that the queue has none. */
static bool
means_none(const SettingArg *arg, Datum value)
{
	switch (arg->kind)
	{
		case SETTING_SPAN:
			return queue_interval_usec(DatumGetIntervalP(value),
									   arg->name) == 0;
		case SETTING_WINDOW:
			return is_negative(DatumGetIntervalP(value));
		case SETTING_LIMIT:
			return DatumGetInt64(value) == 0;
		case SETTING_SMALL_LIMIT:
			return DatumGetInt32(value) == 0;
		default:
			return false;
	}
}

static bool
is_negative(const Interval *span)
{
	Interval	zero = {0};

	return DatumGetBool(DirectFunctionCall2(interval_lt,
											IntervalPGetDatum(span),
											IntervalPGetDatum(&zero)));
}

/* Raise 22023 unless a value is valid, for those that stand alone. */
static void
check_value(const SettingArg *arg, Datum value)
{
	Interval   *span;

	switch (arg->kind)
	{
		case SETTING_REQUIRED:
		case SETTING_QUEUE:
			break;
		case SETTING_WORD:
			if (queue_choice_find(arg->attnum, TextDatumGetCString(value)) < 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("invalid %s: \"%s\"", arg->name,
								TextDatumGetCString(value)),
						 errdetail("Allowed are: %s.",
								   queue_choice_list(arg->attnum))));
			break;
		case SETTING_SPAN:
			(void) queue_interval_usec(DatumGetIntervalP(value), arg->name);
			break;
		case SETTING_WINDOW:
			span = DatumGetIntervalP(value);
			if (!INTERVAL_NOT_FINITE(span) && !is_negative(span))
				(void) queue_interval_usec(span, arg->name);
			break;
		case SETTING_LIMIT:
		case SETTING_SMALL_LIMIT:
			if ((arg->kind == SETTING_LIMIT ? DatumGetInt64(value) :
				 DatumGetInt32(value)) < 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("%s must not be negative", arg->name),
						 errhint("Zero means that there is no limit.")));
			break;
	}
}

/* The same for the settings that every queue has. */
static void
check_base(const Datum *values)
{
	int64		lease;
	int64		max_lease =
		queue_lease_usec(DatumGetIntervalP(values[Anum_settings_max_lease - 1]),
						 "max_lease");

	lease = queue_setting_args_retries(values[Anum_settings_lease - 1],
									   values[Anum_settings_max_attempts - 1],
									   values[Anum_settings_retry_delay - 1],
									   values[Anum_settings_retry_max_delay - 1]);
	if (lease > max_lease)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease must not be longer than max_lease"),
				 errhint("Give both to the call.")));
}

/*
 * queue_setting_args_retries
 *		Raise 22023 unless these settings, which subscriptions have too, are
 *		valid.
 *
 * Returns the microseconds of the lease.
 */
int64
queue_setting_args_retries(Datum lease, Datum max_attempts,
						   Datum retry_delay, Datum retry_max_delay)
{
	int64		usec = queue_lease_usec(DatumGetIntervalP(lease), "lease");
	int			attempts = DatumGetInt32(max_attempts);

	if (attempts < 0 || attempts > PG_INT16_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_attempts must be between 0 and %d", PG_INT16_MAX),
				 errdetail("The value given is %d.", attempts),
				 errhint("Zero means that there is no limit.")));
	(void) queue_interval_usec(DatumGetIntervalP(retry_delay), "retry_delay");
	(void) queue_interval_usec(DatumGetIntervalP(retry_max_delay),
							   "retry_max_delay");
	return usec;
}
