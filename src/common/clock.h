/*-------------------------------------------------------------------------
 *
 * clock.h
 *		A clock that is never set, for everything but times of messages.
 *
 * How long something takes, when to try again, until when to wait: none of
 * that may change when an administrator or NTP sets the time.  Deadlines of
 * leases and due times of messages are times of day, because they outlive the
 * server and are shown to users.  The length of a sleep until one of them is
 * computed when it begins.
 *
 * Times of this clock are microseconds since some moment, the same for all
 * processes.  They are of type TimestampTz, for the arithmetic.  A comment
 * says so wherever one is kept, because they must not meet the other kind.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CLOCK_H
#define QUEUE_CLOCK_H

#include "portability/instr_time.h"
#include "utils/timestamp.h"

/* The time by this clock */
static inline TimestampTz
queue_clock(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (TimestampTz) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * What it will show at that time of day, unless that is set; now, if it is
 * past
 */
static inline TimestampTz
queue_clock_at(TimestampTz time)
{
	TimestampTz now;

	if (time == DT_NOEND)
		return time;
	now = GetCurrentTimestamp();
	return queue_clock() + (time > now ? time - now : 0);
}

#endif							/* QUEUE_CLOCK_H */
