/*-------------------------------------------------------------------------
 *
 * pattern.h
 *		Patterns: which routing keys a binding wants.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PATTERN_H
#define QUEUE_PATTERN_H

/* The longest pattern in bytes: it has to fit into an index entry */
#define QUEUE_MAX_PATTERN	1024

typedef struct QueuePattern QueuePattern;

/* Prepare a pattern, in the current memory context; 22023 if it is none */
extern QueuePattern *queue_pattern_compile(const char *text, int length);
extern void queue_pattern_free(QueuePattern *pattern);

/* Does any routing key match? */
extern bool queue_pattern_is_any(const QueuePattern *pattern);

/* Does a routing key match? */
extern bool queue_pattern_match(const QueuePattern *pattern, const char *key,
								int length);

#endif							/* QUEUE_PATTERN_H */
