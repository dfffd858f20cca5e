/*-------------------------------------------------------------------------
 *
 * report.c
 *		Has the log been told of this lately?
 *
 * Ten thousand messages may fail for one reason, again and again, so the log
 * has one line a minute for a queue and a reason, and 64 for all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "worker/report.h"

/* For a queue and a reason, the log has one line in this time */
#define REPORT_INTERVAL		(60 * USECS_PER_SEC)

/* Reports that the log gets in that time, of all queues */
#define MAX_REPORTS			64

/* What has been reported of a queue, and when */
typedef struct Report
{
	Oid			relid;
	uint32		reason;			/* SQLSTATE, or hash of a sentence */
	TimestampTz at;
} Report;

/*
 * queue_report_is_due
 *		Returns true if it is time to report this about the queue.
 *
 * Then it counts as reported.  If there were as many reports as are remembered,
 * the log has enough of them for now; queue.health() tells of all queues.
 */
bool
queue_report_is_due(Oid relid, uint32 reason, TimestampTz now)
{
	static Report reports[MAX_REPORTS];
	Report	   *oldest = &reports[0];
	int			i;

	for (i = 0; i < MAX_REPORTS; i++)
	{
		Report	   *report = &reports[i];

		if (report->relid == relid && report->reason == reason)
		{
			/* the clock may have been set back */
			if (report->at <= now && now < report->at + REPORT_INTERVAL)
				return false;
			report->at = now;
			return true;
		}
		if (report->at < oldest->at)
			oldest = report;
	}
	if (oldest->at <= now && oldest->at > 0 &&
		now < oldest->at + REPORT_INTERVAL)
		return false;
	oldest->relid = relid;
	oldest->reason = reason;
	oldest->at = now;
	return true;
}
