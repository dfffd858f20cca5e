/*-------------------------------------------------------------------------
 *
 * name.h
 *		Names of new queues.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_NAME_H
#define QUEUE_NAME_H

/* Split a name, and find the schema that the queue goes to; may throw */
extern Oid	queue_name_schema(text *name, const char *noun, char **relname);

/* Lock a name, and those made up from it, to the end of the transaction */
extern void queue_name_lock(Oid schema, const char *relname);

#endif							/* QUEUE_NAME_H */
