/*-------------------------------------------------------------------------
 *
 * scan.h
 *		Messages one after the other: scans of a queue, by index or by table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SCAN_H
#define QUEUE_SCAN_H

#include "table/rows.h"

/* A scan over the live rows of a queue, in order of priority and id */
typedef struct QueueScan
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	SnapshotData dirty;
	Snapshot	snapshot;		/* NULL: judge rows by "dirty" */
	Snapshot	filter;			/* rows that this does not see are skipped;
								 * NULL: none are */
	int			priority;		/* the one being scanned; -1: the end */
	bool		is_range;		/* one range, not all priorities */
	bool		wants_busy;		/* return ROW_BUSY rows too */
	bool		wants_coming;	/* ... and those that are ROW_COMING */
	bool		wants_versions; /* new versions of rows are ROW_BUSY */
	bool		has_missed;		/* an entry had no row: that is dead, or a new
								 * version is elsewhere; callers reset it */
	uint64		missed;			/* sum of their places, to tell whether two
								 * scans met the same; callers reset it */
	MessageRow	row;
} QueueScan;

/* A pass over the rows that a snapshot sees, in the order of the table */
typedef struct QueueTableScan
{
	TableScanDesc scan;
	Snapshot	filter;			/* NULL: the scan's snapshot is all */
	BlockNumber next;			/* where the next stretch begins ... */
	BlockNumber nblocks;		/* ... unless it is this; 0: no stretches */
	MessageRow	row;
} QueueTableScan;

/* A scan of the index by due time */
typedef struct QueueDueScan
{
	Relation	index;
	IndexScanDesc scan;
} QueueDueScan;

/* The same with the rows that a snapshot sees */
typedef struct QueueDueRows
{
	Relation	index;
	IndexScanDesc scan;
	MessageRow	row;
} QueueDueRows;

/* A scan of the rows that expire, by the index of that */
typedef struct QueueExpiryScan
{
	Relation	index;
	IndexScanDesc scan;
	SnapshotData dirty;
	MessageRow	row;
} QueueExpiryScan;

/* Scan live rows; all, unless a range is set */
extern QueueScan *queue_scan_begin(Relation rel, QueueDef *def);

/* The same over the rows that a snapshot sees, whatever became of them */
extern QueueScan *queue_scan_begin_snapshot(Relation rel, QueueDef *def,
											Snapshot snapshot);

/* Messages of groups, live, coming or busy: those of one, in order */
extern QueueScan *queue_scan_begin_group(Relation rel, QueueDef *def);
extern void queue_scan_group(QueueScan *scan, Datum key, int64 low,
							 int64 high);

/*
 * The key of the next group beyond this one (NULL: the first), of which the
 * index has an entry, dead or alive; copied
 */
extern bool queue_scan_next_group(QueueScan *scan, Datum after, Datum *key);

/* Those of all groups, one group after the other */
extern void queue_scan_groups(QueueScan *scan);

/* Messages with a correlation_id, in the order of their ids */
extern QueueScan *queue_scan_begin_correlated(Relation rel, QueueDef *def);
extern void queue_scan_correlated(QueueScan *scan, Datum correlation_id);

/* Go over these messages only, from now on */
extern void queue_scan_range(QueueScan *scan, const QueueRange *range);

/* First id in the index from the range on, dead or alive */
extern int64 queue_scan_probe(QueueScan *scan, const QueueRange *range);

/* Highest id in the index, dead or alive; 0: none */
extern int64 queue_scan_last_id(QueueScan *scan);

/* The next row, or NULL */
extern MessageRow *queue_scan_next(QueueScan *scan);
extern void queue_scan_end(QueueScan *scan);

/*
 * Entries of the index by due time, dead or alive: those of one priority from
 * a time on, one after the other
 */
extern QueueDueScan *queue_due_scan_begin(Relation rel, QueueDef *def);
extern void queue_due_scan_from(QueueDueScan *scan, int priority,
								TimestampTz from);
extern bool queue_due_scan_next(QueueDueScan *scan, TimestampTz *due,
								int64 *id);
extern void queue_due_scan_end(QueueDueScan *scan);

/* Rows that this snapshot sees, of one priority, due after a time */
extern QueueDueRows *queue_due_rows_begin(Relation rel, QueueDef *def,
										  Snapshot snapshot);
extern void queue_due_rows_after(QueueDueRows *scan, int priority,
								 TimestampTz after);
extern MessageRow *queue_due_rows_next(QueueDueRows *scan);
extern void queue_due_rows_end(QueueDueRows *scan);

/* Rows that expire from a time on, in that order, whatever their state */
extern QueueExpiryScan *queue_expiry_scan_begin(Relation rel, QueueDef *def,
												TimestampTz from);
extern MessageRow *queue_expiry_scan_next(QueueExpiryScan *scan);
extern void queue_expiry_scan_end(QueueExpiryScan *scan);

/* A pass over the rows that a snapshot sees */
extern QueueTableScan *queue_table_scan_begin(Relation rel, Snapshot snapshot);

/*
 * The same by stretches of the table, for a caller with something to do in
 * between, however few rows there are.  It begins before the first one; false:
 * that was the last one
 */
extern QueueTableScan *queue_table_scan_begin_stretches(Relation rel,
														Snapshot snapshot);
extern bool queue_table_scan_go_on(QueueTableScan *pass, BlockNumber npages);

/* The next row, or NULL; it may have been changed since */
extern MessageRow *queue_table_scan_next(QueueTableScan *pass);
extern void queue_table_scan_end(QueueTableScan *pass);

#endif							/* QUEUE_SCAN_H */
