/*-------------------------------------------------------------------------
 *
 * pattern.c
 *		Compares src/table/pattern.c with a matcher that is too simple to be
 *		wrong.
 *
 * Each pattern of up to five words out of a few is tried with each routing key
 * of up to five; the plain matcher tries whatever a "#" may stand for.  It is
 * linked with the object file of the patterns alone.  The last line of the
 * output is "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <setjmp.h>

#include "common/compat.h"
#include "table/pattern.h"

/* no server, no library of its: the C library's will do */
#undef printf
#undef fprintf

#define MAX_WORDS	5

static const char *const pattern_words[] = {"*", "#", "a", "bc", ""};
static const char *const key_words[] = {"a", "bc", "", "*"};

static jmp_buf on_error;

/* What pattern.c wants of the server */
void *
palloc(Size size)
{
	return malloc(size);
}

void
pfree(void *pointer)
{
	free(pointer);
}

bool
errstart(int elevel, const char *domain)
{
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return true;
}

int
errcode(int sqlerrcode)
{
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
errfinish(const char *filename, int lineno, const char *funcname)
{
	longjmp(on_error, 1);
}

/* Words, as a text with dots between them */
typedef struct Words
{
	int			n;
	const char *words[MAX_WORDS];
	char text[	MAX_WORDS * 4];
} Words;

/*
 * Make the words that have this number, of all with up to MAX_WORDS words.
 * Returns false if there are no more, or if they have no text of their own: one
 * empty word is written as none is.
 */
static bool
make_words(int number, const char *const *choice, int nchoices, Words *words,
		   bool *is_last)
{
	int			count = 1;

	words->n = 0;
	while (words->n <= MAX_WORDS && number >= count)
	{
		number -= count;
		count *= nchoices;
		words->n++;
	}
	*is_last = words->n > MAX_WORDS;
	if (*is_last)
		return false;
	words->text[0] = '\0';
	for (int i = 0; i < words->n; i++)
	{
		words->words[i] = choice[number % nchoices];
		number /= nchoices;
		if (i > 0)
			strcat(words->text, ".");
		strcat(words->text, words->words[i]);
	}
	return words->n != 1 || words->words[0][0] != '\0';
}

/* Do words i, i + 1 ... of the pattern match words j, j + 1 ... of the key? */
static bool
matches_plainly(const Words *pattern, int i, const Words *key, int j)
{
	if (i == pattern->n)
		return j == key->n;
	if (strcmp(pattern->words[i], "#") == 0)
	{
		for (; j <= key->n; j++)
			if (matches_plainly(pattern, i + 1, key, j))
				return true;
		return false;
	}
	return j < key->n &&
		(strcmp(pattern->words[i], "*") == 0 ||
		 strcmp(pattern->words[i], key->words[j]) == 0) &&
		matches_plainly(pattern, i + 1, key, j + 1);
}

/* Compare a pattern with all keys, and return how many are judged wrongly. */
static int
count_wrong(const Words *words)
{
	QueuePattern *pattern = queue_pattern_compile(words->text,
												  strlen(words->text));
	Words		key;
	bool		is_last = false;
	int			nwrong = 0;

	for (int i = 0; !is_last; i++)
	{
		if (make_words(i, key_words, lengthof(key_words), &key, &is_last) &&
			queue_pattern_match(pattern, key.text, strlen(key.text)) !=
			matches_plainly(words, 0, &key, 0))
		{
			printf("pattern \"%s\" with key \"%s\": FAILED\n", words->text,
				   key.text);
			nwrong++;
		}
	}
	queue_pattern_free(pattern);
	return nwrong;
}

/* Returns true if this is refused. */
static bool
is_refused(const char *text, int length)
{
	if (setjmp(on_error) != 0)
		return true;
	queue_pattern_free(queue_pattern_compile(text, length));
	return false;
}

/* Is what is no pattern refused, and what may look like none taken? */
static int
count_misjudged(void)
{
	static const char *const bad[] = {"a*", "*a", "**", "##", "a.#b", "#.*#.a"};
	static const char *const good[] = {"", ".", "*", "#", "*.#.*", "#.#.#", "a..b"};
	static char longest[QUEUE_MAX_PATTERN + 1];
	int			nwrong = 0;

	memset(longest, 'x', sizeof(longest));
	for (int i = 0; i < lengthof(bad); i++)
		nwrong += is_refused(bad[i], strlen(bad[i])) ? 0 : 1;
	for (int i = 0; i < lengthof(good); i++)
		nwrong += is_refused(good[i], strlen(good[i])) ? 1 : 0;
	nwrong += is_refused(longest, QUEUE_MAX_PATTERN) ? 1 : 0;
	nwrong += is_refused(longest, QUEUE_MAX_PATTERN + 1) ? 0 : 1;
	return nwrong;
}

int
main(void)
{
	Words		pattern;
	bool		is_last = false;
	int			npatterns = 0;
	int			nwrong = 0;
	int			nmisjudged = count_misjudged();
	int			nfailed;

	for (int i = 0; !is_last; i++)
	{
		if (!make_words(i, pattern_words, lengthof(pattern_words), &pattern,
						&is_last))
			continue;
		npatterns++;
		nwrong += count_wrong(&pattern);
	}
	nfailed = (nwrong > 0) + (nmisjudged > 0);
	printf("%d patterns, %d wrong: %s\n", npatterns, nwrong,
		   nwrong == 0 ? "ok" : "FAILED");
	printf("what is no pattern: %s\n", nmisjudged == 0 ? "ok" : "FAILED");
	printf("%d passed, %d failed\n", 2 - nfailed, nfailed);
	return nfailed == 0 ? 0 : 1;
}
