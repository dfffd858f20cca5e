/*-------------------------------------------------------------------------
 *
 * args.c
 *		Any bytes as an interval.
 *
 * It is taken for the microseconds that it has, if these are within a hundred
 * years, and refused otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "common/args.h"
#include "fuzz.h"

#define MAX_SPAN	((int128) 100 * 12 * 30 * USECS_PER_DAY)

/*
 * An interval is anything.  If there are two more bytes, they may say that its
 * length is near to the least or the most that there is, and how near.
 */
int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	static Interval span;
	static int128 expected;
	static bool is_finite;

	if (size < sizeof(Interval))
		return 0;
	memcpy(&span, data, sizeof(Interval));
	if (size >= sizeof(Interval) + 2 && (data[sizeof(Interval)] & 1) != 0)
	{
		span.month %= 1200;
		span.day %= 36000;
		span.time = (int64) ((data[sizeof(Interval)] & 2) != 0 ? MAX_SPAN : 0) +
			(int8) data[sizeof(Interval) + 1] -
			((int64) span.month * 30 + span.day) * USECS_PER_DAY;
	}
	is_finite = !INTERVAL_NOT_FINITE(&span);
	expected = ((int128) span.month * 30 + span.day) * USECS_PER_DAY +
		span.time;
	if (setjmp(fuzz_error) == 0)
	{
		REQUIRE(queue_interval_usec(&span, "delay") == expected);
		REQUIRE(is_finite && expected >= 0 && expected <= MAX_SPAN);
		REQUIRE(queue_lease_usec(&span, "lease") > 0);
	}
	else
	{
		REQUIRE(fuzz_sqlstate == ERRCODE_INVALID_PARAMETER_VALUE);
		REQUIRE(!is_finite || expected <= 0 || expected > MAX_SPAN);
	}
	return 0;
}
