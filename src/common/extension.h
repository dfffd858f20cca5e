/*-------------------------------------------------------------------------
 *
 * extension.h
 *		What the extension is called.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_EXTENSION_H
#define QUEUE_EXTENSION_H

#define QUEUE_SCHEMA			"queue"
#define QUEUE_EXTENSION			"queue"
#define QUEUE_VERSION			"0.4.0" /* as in queue.control */

#endif							/* QUEUE_EXTENSION_H */
