/*-------------------------------------------------------------------------
 *
 * pattern.c
 *		Patterns: which routing keys a binding wants.
 *
 * As in AMQP, a routing key consists of words with dots between them, and so
 * does a pattern, where "*" stands for one word, whatever it is, and "#" for
 * any number of them, or none.  A word may be empty: "a..b" has three, and "."
 * has two; but the empty key has none.
 *
 * A "#" first stands for nothing; if what follows does not match, the last "#"
 * that was passed takes one word more, and what follows it is tried anew.  To
 * go back to an earlier one would be in vain, because whatever words that one
 * took more, the last one can take as well.  So a key costs no more than its
 * words times those of the pattern, whoever wrote them.
 *
 * In all encodings of a server a byte that looks like a dot is one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "table/pattern.h"

typedef enum WordKind
{
	WORD_EXACT,
	WORD_ANY,					/* an asterisk */
	WORDS_ANY					/* a number sign */
} WordKind;

typedef struct PatternWord
{
	WordKind	kind;
	int			start;			/* in the text */
	int			length;
} PatternWord;

struct QueuePattern
{
	const char *text;			/* what follows the words */
	int			nwords;
	PatternWord words[FLEXIBLE_ARRAY_MEMBER];
};

static PatternWord read_word(const char *text, int start, int length);
static int	end_of_word(const char *text, int start, int length);
static void check_word(const char *text, int length, const PatternWord *word);
static bool word_matches(const QueuePattern *pattern, int i, const char *key,
						 int start, int end);

/*
 * queue_pattern_compile
 *		Prepare a pattern, in the current memory context.
 *
 * Raises 22023 if it is too long, or has a wildcard that is not a whole word,
 * by which nobody can have meant what AMQP would make of it.  One of several
 * "#" in a row is as good as all of them.
 */
QueuePattern *
queue_pattern_compile(const char *text, int length)
{
	QueuePattern *pattern;
	char	   *copy;
	int			max = length > 0 ? 1 : 0;
	int			start = 0;
	Size		size;

	if (length > QUEUE_MAX_PATTERN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pattern is too long"),
				 errdetail("It has %d bytes; the longest may have %d.",
						   length, QUEUE_MAX_PATTERN)));
	for (int i = 0; i < length; i++)
		max += text[i] == '.';

	size = offsetof(QueuePattern, words) + max * sizeof(PatternWord);
	pattern = palloc(size + length + 1);
	copy = (char *) pattern + size;
	memcpy(copy, text, length);
	copy[length] = '\0';
	pattern->text = copy;
	pattern->nwords = 0;
	for (int i = 0; i < max; i++)
	{
		PatternWord word = read_word(copy, start, length);

		start = word.start + word.length + 1;
		check_word(copy, length, &word);
		if (word.kind == WORDS_ANY && pattern->nwords > 0 &&
			pattern->words[pattern->nwords - 1].kind == WORDS_ANY)
			continue;
		pattern->words[pattern->nwords++] = word;
	}
	return pattern;
}

/* Does it match every routing key? */
bool
queue_pattern_is_any(const QueuePattern *pattern)
{
	return pattern->nwords == 1 && pattern->words[0].kind == WORDS_ANY;
}

void
queue_pattern_free(QueuePattern *pattern)
{
	pfree(pattern);
}

/* Return the word of a pattern that begins here. */
static PatternWord
read_word(const char *text, int start, int length)
{
	PatternWord word = {WORD_EXACT, start, 0};

	word.length = end_of_word(text, start, length) - start;
	if (word.length == 1 && text[start] == '*')
		word.kind = WORD_ANY;
	else if (word.length == 1 && text[start] == '#')
		word.kind = WORDS_ANY;
	return word;
}

/* Return where the word ends that begins here. */
static int
end_of_word(const char *text, int start, int length)
{
	const char *dot = start < length ?
		memchr(text +start, '.', length - start) : NULL;

	return dot != NULL ? (int) (dot - text) : length;
}

/* Raise 22023 if this word has a wildcard, but is none. */
static void
check_word(const char *text, int length, const PatternWord *word)
{
	if (word->kind != WORD_EXACT)
		return;
	for (int i = word->start; i < word->start + word->length; i++)
		if (text[i] == '*' || text[i] == '#')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid pattern: \"%s\"", text),
					 errdetail("\"%.*s\" is neither a word nor a wildcard.",
							   word->length, text +word->start),
					 errhint("\"*\" stands for one whole word between dots, \"#\" for any number of words.")));
}

/*
 * queue_pattern_match
 *		Returns true if the pattern matches all words of the routing key.
 *
 * "start" is where the next word of the key begins; beyond its end, by one,
 * there is none left.
 */
bool
queue_pattern_match(const QueuePattern *pattern, const char *key, int length)
{
	int			start = length == 0 ? 1 : 0;
	int			i = 0;
	int			again = -1;		/* the word behind the last "#" */
	int			again_start = 0;	/* ... and what it is tried with next */

	for (;;)
	{
		if (i < pattern->nwords && pattern->words[i].kind == WORDS_ANY)
		{
			again = ++i;
			again_start = start;
			if (again == pattern->nwords)
				return true;
		}
		if (start > length && i == pattern->nwords)
			return true;
		if (start <= length && i < pattern->nwords)
		{
			int			end = end_of_word(key, start, length);

			if (word_matches(pattern, i, key, start, end))
			{
				i++;
				start = end + 1;
				continue;
			}
		}
		/* the last "#" takes one word more, if there is one */
		if (again < 0 || again_start > length)
			return false;
		again_start = end_of_word(key, again_start, length) + 1;
		start = again_start;
		i = again;
	}
}

/* Does this word of the pattern match one of the key? */
static bool
word_matches(const QueuePattern *pattern, int i, const char *key, int start,
			 int end)
{
	const PatternWord *word = &pattern->words[i];

	return word->kind == WORD_ANY ||
		(word->length == end - start &&
		 memcmp(pattern->text +word->start, key + start, end - start) == 0);
}
