/*-------------------------------------------------------------------------
 *
 * fault.c
 *		Any bytes as the lock file of the postmaster.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

static const char *file;
static size_t file_size;

static ssize_t
read_file(int fd, void *buf, size_t len)
{
	len = Min(len, file_size);
	memcpy(buf, file, len);
	return len;
}

#define open(name, flags, mode)	0
#define close(fd)				((void) 0)
#define read					read_file

#include "transaction/fault.c"

#include "fuzz.h"

/* Reads it another way. */
static bool
says_stopping(void)
{
	size_t		line = 1;
	size_t		i;
	size_t		len = strlen(PM_STATUS_STOPPING);

	for (i = 0; i < file_size && line < LOCK_FILE_LINE_PM_STATUS; i++)
	{
		if (file[i] == '\0')
			return false;
		line += file[i] == '\n' ? 1 : 0;
	}
	return line == LOCK_FILE_LINE_PM_STATUS && i + len <= file_size &&
		memcmp(file + i, PM_STATUS_STOPPING, len) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	file = (const char *) data;
	file_size = Min(size, MAXPGPATH + 511);
	REQUIRE(server_is_stopping() == says_stopping());
	return 0;
}
