/*-------------------------------------------------------------------------
 *
 * server.c
 *		The little of the server that the fuzz targets need.
 *
 * Memory comes from malloc(), each piece by itself, so that AddressSanitizer
 * sees its ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "fuzz.h"

/* no server, no library of its: the C library's will do */
#undef fprintf

#define MAX_PIECES	4096

jmp_buf		fuzz_error;
int			fuzz_sqlstate = 0;

Oid			MyDatabaseId = 5;
pg_prng_state pg_global_prng_state;

static void *pieces[MAX_PIECES];
static int	npieces = 0;
static LWLockPadded tranche;

/* ----------------------------------------------------------------
 *		Memory
 * ----------------------------------------------------------------
 */

void *
palloc(Size size)
{
	void	   *piece = malloc(size);

	if (npieces == MAX_PIECES)
		abort();
	pieces[npieces++] = piece;
	return piece;
}

char *
pstrdup(const char *in)
{
	return strcpy(palloc(strlen(in) + 1), in);
}

#if !HAVE_DECL_STRLCPY
size_t
strlcpy(char *dst, const char *src, size_t size)
{
	size_t		len = strlen(src);

	if (size > 0)
	{
		memcpy(dst, src, Min(len, size - 1));
		dst[Min(len, size - 1)] = '\0';
	}
	return len;
}
#endif

void
fuzz_reset(void)
{
	while (npieces > 0)
		free(pieces[--npieces]);
}

void *
ShmemInitStruct(const char *name, Size size, bool *found)
{
	*found = false;
	return malloc(size);
}

/* ----------------------------------------------------------------
 *		Errors
 * ----------------------------------------------------------------
 */

void
fuzz_fail(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
	abort();
}

#if PG_VERSION_NUM >= 160000
void
ExceptionalCondition(const char *condition, const char *file, int line)
#else
void
ExceptionalCondition(const char *condition, const char *type,
					 const char *file, int line)
#endif
{
	fuzz_fail(condition, file, line);
}

bool
errstart(int elevel, const char *domain)
{
	if (elevel < ERROR)
		return false;
	fuzz_sqlstate = ERRCODE_INTERNAL_ERROR;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	fuzz_sqlstate = sqlerrcode;
	return 0;
}

int
errmsg(const char *fmt,...)
{
	return 0;
}

int
errdetail(const char *fmt,...)
{
	return 0;
}

int
errhint(const char *fmt,...)
{
	return 0;
}

void
errfinish(const char *file, int line, const char *function)
{
	longjmp(fuzz_error, 1);
}

/* ----------------------------------------------------------------
 *		Nobody else is there, and texts are UTF-8
 * ----------------------------------------------------------------
 */

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	return true;
}

void
LWLockRelease(LWLock *lock)
{
}

LWLockPadded *
GetNamedLWLockTranche(const char *name)
{
	return &tranche;
}

/* no time passes */
TimestampTz
GetCurrentTimestamp(void)
{
	return 0;
}

uint32
hash_bytes(const unsigned char *k, int keylen)
{
	uint32		hash = 0;

	while (keylen-- > 0)
		hash = hash * 31 + *k++;
	return hash;
}

double
pg_prng_double(pg_prng_state *state)
{
	return 0.5;
}

/* What begins within the limit and ends beyond it is left out. */
int
pg_mbcliplen(const char *text, int len, int limit)
{
	if (len <= limit)
		return len;
	while (limit > 0 && ((unsigned char) text[limit] & 0xc0) == 0x80)
		limit--;
	return limit;
}
