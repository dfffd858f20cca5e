/*-------------------------------------------------------------------------
 *
 * relation_name.h
 *		What a table is called.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RELATION_NAME_H
#define QUEUE_RELATION_NAME_H

/* Qualified name, for a message that quotes it, and for SQL */
extern char *queue_shown_name(Oid relid);
extern char *queue_qualified_name(Oid relid);

#endif							/* QUEUE_RELATION_NAME_H */
