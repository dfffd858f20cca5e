/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *		What the fuzz targets have instead of a server.
 *
 * Each target is a LLVMFuzzerTestOneInput(), which libFuzzer calls with bytes
 * again and again.  It is linked with the file of src/ that has its name and
 * with server.c, or includes the file to reach what is static there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FUZZ_H
#define QUEUE_FUZZ_H

#include <setjmp.h>

#include "common/compat.h"

/* What must be true of every input, be assertions on or off */
#define REQUIRE(condition) \
	do { if (!(condition)) fuzz_fail(#condition, __FILE__, __LINE__); } while (0)

/*
 * Where an error of the server goes, and its SQLSTATE:
 *
 *		if (setjmp(fuzz_error) == 0) { ... } else { ... fuzz_sqlstate ... }
 */
extern jmp_buf fuzz_error;
extern int	fuzz_sqlstate;

/* Free what was palloc'd; to be called at the end of each input */
extern void fuzz_reset(void);

pg_noreturn extern void fuzz_fail(const char *what, const char *file, int line);

extern int	LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

#endif							/* QUEUE_FUZZ_H */
