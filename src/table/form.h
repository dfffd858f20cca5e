/*-------------------------------------------------------------------------
 *
 * form.h
 *		What a table of each kind is made of: queues, topics, subscriptions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FORM_H
#define QUEUE_FORM_H

#include "access/attnum.h"

#include "table/column.h"
#include "table/member.h"

#define MAX_INDEX_COLUMNS	3
#define MAX_KEY_COLUMNS		2

/* An index beside the primary key, by columns of the table; it is partial */
typedef struct OwnIndexForm
{
	int			ncolumns;
	AttrNumber	columns[MAX_INDEX_COLUMNS];
	AttrNumber	wanted;			/* rows where this one is null have no entry */
} OwnIndexForm;

/* Those of a queue */
typedef enum OwnIndex
{
	DUE_INDEX,					/* messages with a due time */
	EXPIRY_INDEX,				/* ... with an end */
	GROUP_INDEX,				/* ... of a group */
	CORRELATION_INDEX			/* ... that belong together, by correlation_id */
} OwnIndex;

/* As many as a table of any kind has at most */
#define NUM_OWN_INDEXES		4

/* A trigger of its own, before each row */
typedef struct OwnTriggerForm
{
	const char *name;			/* that a new one gets */
	const char *function;		/* in our schema, by which it is known */
	const char *event;			/* "INSERT", "UPDATE OR DELETE" */
	int16		type;			/* TRIGGER_TYPE_xxx of that event, or more */
} OwnTriggerForm;

#define NUM_OWN_TRIGGERS	2

/* A kind of tables */
typedef struct TableForm
{
	const char *noun;			/* in messages, as "queue" */
	int			natts;
	const QueueColumn *columns;
	AttrNumber	id;				/* which owns the sequence; 0: there is none */
	int			nkeys;
	AttrNumber	key[MAX_KEY_COLUMNS];	/* the primary key */
	int			nindexes;
	const OwnIndexForm *indexes;
	OwnTriggerForm triggers[NUM_OWN_TRIGGERS];
	const char *storage;		/* parameters that others do not have, or "" */
	bool		may_be_unlogged;
	bool		may_be_truncated;
	bool		ids_may_restart;
	MemberTable settings;		/* which has a row for each */
	const char *maker;			/* functions, as "queue.create_queue()" */
	const char *changer;
	const char *dropper;
} TableForm;

extern const TableForm queue_form;
extern const TableForm queue_topic_form;
extern const TableForm queue_subscription_form;

/* Every kind there is */
#define NUM_FORMS			3
extern const TableForm *const queue_forms[NUM_FORMS];

/* The column of this name, NULL if such a table has none */
extern const QueueColumn *queue_form_column(const TableForm *form,
											const char *name);

/* For CREATE TABLE: a column, as "id pg_catalog.int8 NOT NULL" */
extern char *queue_form_column_ddl(const TableForm *form, AttrNumber attnum);

/* The primary key, as "(priority, id)" */
extern char *queue_form_key(const TableForm *form);

/* Are these columns of a table its primary key? */
extern bool queue_form_is_key(const TableForm *form, int n,
							  const AttrNumber *attnums);

/* The same of other columns */
extern char *queue_form_columns(const TableForm *form, int n,
								const AttrNumber *attnums);

#endif							/* QUEUE_FORM_H */
