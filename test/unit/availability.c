/*-------------------------------------------------------------------------
 *
 * availability.c
 *		Calls the rule of src/shared/availability.c for every combination.
 *
 * The rule is a table here: the first line whose conditions hold says what
 * must come out.  A line passes if there was a combination for it, and what it
 * says came out of all of them.  It is linked with the object file of the rule
 * alone, so it also shows that this needs nothing else.  How batches are halved
 * is tried, too.  The last line of the output is "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/availability.h"

/* no server, no library of its: the C library's will do */
#undef printf
#undef fprintf

#define NOW		((TimestampTz) 1000)

#define ANY		(-1)
#define NO		0
#define YES		1
#define NONE	100				/* no entry */

/* When is a due time or a deadline? */
#define LATER	YES
#define IS_LATER(at)	((at) > NOW ? YES : NO)

/* What "due" must be */
typedef enum Due
{
	DUE_UNKNOWN,				/* 0 */
	DUE_DEADLINE,
	DUE_LATEST,					/* of the entry's and the row's */
	DUE_WHATEVER
} Due;

typedef struct Line
{
	/* conditions; ANY: does not matter */
	int			state;			/* InflightState, or NONE */
	int			is_settling;
	int			is_exhausted;
	int			is_at_limit;	/* by all failures */
	int			is_expired;		/* by the row */
	int			deadline;
	int			visible_at;
	/* what follows */
	Availability availability;
	Due			due;
} Line;

static const Line lines[] = {
	/* dequeued: until the transaction ends, and nobody knows when */
	{INFLIGHT_DEQUEUED, ANY, ANY, ANY, ANY, ANY, ANY, MESSAGE_HELD, DUE_UNKNOWN},

	/* leased: while it is being settled, or until its deadline */
	{INFLIGHT_LEASED, YES, ANY, ANY, ANY, ANY, ANY, MESSAGE_HELD, DUE_UNKNOWN},
	{INFLIGHT_LEASED, NO, ANY, ANY, ANY, LATER, ANY, MESSAGE_HELD, DUE_DEADLINE},

	/* a lease that ran out: its row says when it is due */
	{INFLIGHT_LEASED, NO, ANY, YES, ANY, NO, ANY, MESSAGE_EXHAUSTED, DUE_WHATEVER},
	{INFLIGHT_LEASED, NO, ANY, NO, YES, NO, ANY, MESSAGE_EXPIRED, DUE_WHATEVER},
	{INFLIGHT_LEASED, NO, ANY, NO, NO, NO, LATER, MESSAGE_NOT_DUE, DUE_LATEST},
	{INFLIGHT_LEASED, NO, ANY, NO, NO, NO, NO, MESSAGE_AVAILABLE, DUE_WHATEVER},

	/* nobody's, or just being judged */
	{INFLIGHT_IDLE, ANY, YES, ANY, ANY, ANY, ANY, MESSAGE_EXHAUSTED, DUE_WHATEVER},
	{INFLIGHT_CLAIMED, ANY, YES, ANY, ANY, ANY, ANY, MESSAGE_EXHAUSTED, DUE_WHATEVER},
	{ANY, ANY, ANY, YES, ANY, ANY, ANY, MESSAGE_EXHAUSTED, DUE_WHATEVER},
	{NONE, ANY, ANY, NO, YES, ANY, ANY, MESSAGE_EXPIRED, DUE_WHATEVER},
	{ANY, ANY, ANY, NO, YES, ANY, ANY, MESSAGE_EXPIRED, DUE_WHATEVER},
	{NONE, ANY, ANY, NO, NO, ANY, LATER, MESSAGE_NOT_DUE, DUE_LATEST},
	{NONE, ANY, ANY, NO, NO, ANY, NO, MESSAGE_AVAILABLE, DUE_WHATEVER},
	{ANY, ANY, ANY, NO, NO, LATER, ANY, MESSAGE_NOT_DUE, DUE_LATEST},
	{ANY, ANY, ANY, NO, NO, NO, LATER, MESSAGE_NOT_DUE, DUE_LATEST},
	{ANY, ANY, ANY, NO, NO, NO, NO, MESSAGE_AVAILABLE, DUE_WHATEVER},
};

/* One combination, and what the rule says of it */
typedef struct Play
{
	InflightEntry entry;
	bool		has_entry;
	int			max_attempts;
	int			counted;
	TimestampTz visible_at;
	TimestampTz expires_at;
	MessageStatus status;
} Play;

/* Of each line: how many combinations, and how many of them were wrong */
static int	nplayed[lengthof(lines)];
static int	nwrong[lengthof(lines)];

/* The line that is being tried */
static int	current;

/*
 * The rule calls nothing but this, in builds with assertions.  Before 16 it is
 * told of which kind the assertion is, too.
 */
void
ExceptionalCondition(const char *condition,
#if PG_VERSION_NUM < 160000
					 const char *type,
#endif
					 const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, condition);
	exit(1);
}

static void
check(bool is_right, const char *what, const Play *play)
{
	if (is_right)
		return;
	nwrong[current]++;
	printf("%s: state %d settling %d exhausted %d lapse counted %d"
		   " failures %d deadline %d, row attempts %d of %d visible_at %d"
		   " expires_at %d:"
		   " availability %d claimed %d failures %d due %d\n", what,
		   play->has_entry ? play->entry.state : NONE,
		   play->entry.is_settling, play->entry.is_exhausted,
		   play->entry.is_lapse_counted, play->entry.failures,
		   (int) play->entry.deadline, play->counted, play->max_attempts,
		   (int) play->visible_at, (int) play->expires_at,
		   play->status.availability,
		   play->status.is_claimed, play->status.failures,
		   (int) play->status.due);
}

static bool
holds(int condition, int value)
{
	return condition == ANY || condition == value;
}

/* The failures that a consumer would be told of, less one. */
static int
all_failures(const Play *play)
{
	const InflightEntry *entry = &play->entry;

	if (!play->has_entry)
		return play->counted;
	return play->counted + entry->failures +
		(entry->state == INFLIGHT_LEASED && !entry->is_settling &&
		 !IS_LATER(entry->deadline) && !entry->is_lapse_counted ? 1 : 0);
}

static int
find_line(const Play *play)
{
	bool		is_at_limit = play->max_attempts > 0 &&
		all_failures(play) >= play->max_attempts;
	const Line *line = lines;

	while (!(holds(line->state, play->has_entry ? play->entry.state : NONE) &&
			 holds(line->is_settling, play->entry.is_settling) &&
			 holds(line->is_exhausted, play->entry.is_exhausted) &&
			 holds(line->is_at_limit, is_at_limit) &&
			 holds(line->is_expired, play->expires_at != 0 &&
				   play->expires_at <= NOW) &&
			 holds(line->deadline, IS_LATER(play->entry.deadline)) &&
			 holds(line->visible_at, IS_LATER(play->visible_at))))
		line++;
	Assert(line < lines + lengthof(lines));
	return line - lines;
}

static void
check_due(const Play *play, Due due)
{
	TimestampTz deadline = play->has_entry &&
		play->entry.state != INFLIGHT_LEASED ? play->entry.deadline : 0;

	if (due == DUE_UNKNOWN)
		check(play->status.due == 0, "due unknown", play);
	else if (due == DUE_DEADLINE)
		check(play->status.due == play->entry.deadline, "deadline", play);
	else if (due == DUE_LATEST)
		check(play->status.due == Max(play->visible_at, deadline), "due",
			  play);
}

/* The two looks of a consumer, by the entry and by both, fit together. */
static void
check_claim(const Play *play)
{
	MessageStatus by_entry;

	queue_entry_status(&play->entry, NOW, &by_entry);
	check(by_entry.is_claimed == play->status.is_claimed, "claim: claimed",
		  play);
	check(by_entry.availability == MESSAGE_AVAILABLE ||
		  play->status.availability != MESSAGE_AVAILABLE,
		  "claim: refuses what is available", play);
	check((by_entry.availability == MESSAGE_HELD) ==
		  (play->status.availability == MESSAGE_HELD), "claim: held", play);
}

static void
play_out(Play *play)
{
	const Line *line;

	current = find_line(play);
	line = &lines[current];
	nplayed[current]++;
	queue_message_status(play->max_attempts, play->counted, play->visible_at,
						 play->expires_at, play->has_entry ? &play->entry : NULL,
						 NOW, &play->status);
	check(play->status.availability == line->availability, "availability",
		  play);
	check(play->status.failures == all_failures(play), "failures", play);
	check(play->status.is_claimed ==
		  (play->has_entry && play->entry.state == INFLIGHT_CLAIMED),
		  "claimed", play);
	check_due(play, line->due);
	if (play->has_entry)
		check_claim(play);
}

/* Each row beside one entry, or none */
static void
play_rows(Play *play)
{
	static const TimestampTz times[] = {0, NOW - 1, NOW, NOW + 1, NOW + 3};
	static const TimestampTz ends[] = {0, NOW - 1, NOW, NOW + 1};

	for (int i = 0; i < lengthof(times) * lengthof(ends); i++)
		for (play->max_attempts = 0; play->max_attempts < 5;
			 play->max_attempts++)
			for (play->counted = 0; play->counted < 4; play->counted++)
			{
				play->visible_at = times[i % lengthof(times)];
				play->expires_at = ends[i / lengthof(times)];
				play_out(play);
			}
}

static void
play_entries(Play *play)
{
	static const TimestampTz times[] = {0, NOW - 1, NOW, NOW + 1, NOW + 2};
	int			flags;
	int			i;

	for (i = 0; i < lengthof(times); i++)
		for (flags = 0; flags < 16; flags++)
		{
			play->entry.deadline = times[i];
			play->entry.is_settling = (flags & 1) != 0 &&
				play->entry.state == INFLIGHT_LEASED;
			play->entry.is_exhausted = (flags & 2) != 0;
			play->entry.is_lapse_counted = (flags & 4) != 0;
			play->entry.failures = (flags & 8) ? 2 : 0;
			play_rows(play);
		}
}

/*
 * Halve batches of every size until what has failed is alone: nobody has
 * failed more often than the logarithm says.
 */
static bool
are_batches_halved(void)
{
	bool		is_right = true;

	for (int first = 1; first <= PG_UINT16_MAX; first++)
	{
		int			failures = 0;
		int			limit = first;

		for (int batch = first; batch > 1; batch = limit)
		{
			failures++;
			limit = queue_batch_limit(0, failures, batch);
			is_right &= limit >= 1 && 2 * limit <= batch &&
				(batch <= 1 || 2 * limit >= batch - 1);
		}
		is_right &= (1 << failures) <= first;
	}
	is_right &= queue_batch_limit(0, 0, 0) == 0;
	is_right &= queue_batch_limit(1, 0, 8) == 0;
	is_right &= queue_batch_limit(0, 1, 0) == 1;
	is_right &= queue_batch_limit(0, 1, 1) == 1;
	is_right &= queue_batch_limit(3, 1, 8) == 4;
	is_right &= queue_batch_limit(3, 2, 8) == 1;
	return is_right;
}

int
main(void)
{
	static Play play;
	bool		are_halved = are_batches_halved();
	int			nfailed = 0;
	int			state;
	int			i;

	play_rows(&play);
	play.has_entry = true;
	for (state = INFLIGHT_IDLE; state <= INFLIGHT_LEASED; state++)
	{
		play.entry.state = state;
		play_entries(&play);
	}
	for (i = 0; i < lengthof(lines); i++)
	{
		bool		is_right = nplayed[i] > 0 && nwrong[i] == 0;

		nfailed += is_right ? 0 : 1;
		printf("line %d: %d combinations, %d wrong: %s\n", i + 1, nplayed[i],
			   nwrong[i], is_right ? "ok" : "FAILED");
	}
	nfailed += are_halved ? 0 : 1;
	printf("batches: %s\n", are_halved ? "ok" : "FAILED");
	printf("%d passed, %d failed\n", (int) lengthof(lines) + 1 - nfailed,
		   nfailed);
	return nfailed == 0 ? 0 : 1;
}
