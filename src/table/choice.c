/*-------------------------------------------------------------------------
 *
 * choice.c
 *		Settings of a queue that are one of a few words.
 *
 * The table of settings has the words, so that a dump and a user can
 * read them; a session knows them as enums.  The constraints of that table
 * name the words, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "table/choice.h"
#include "table/settings.h"

#define MAX_WORDS	3

typedef struct Choice
{
	int			attnum;
	const char *words[MAX_WORDS];	/* in order of the enum; the first is the
									 * default */
} Choice;

static const Choice choices[] = {
	{Anum_settings_on_expiry, {"dead_letter", "discard"}},
	{Anum_settings_group_mode, {"ordered", "fair", "none"}},
	{Anum_settings_group_failure, {"dead_letter", "hold"}},
	{Anum_settings_on_full, {"error", "wait"}},
};

static const Choice *find_choice(int attnum);


/* Return which of its words this is, -1 if it is none of them. */
int
queue_choice_find(int attnum, const char *word)
{
	const Choice *choice = find_choice(attnum);

	for (int i = 0; i < MAX_WORDS && choice->words[i] != NULL; i++)
	{
		if (strcmp(choice->words[i], word) == 0)
			return i;
	}
	return -1;
}

/* Return the word that a queue has unless it is told otherwise. */
const char *
queue_choice_default(int attnum)
{
	return find_choice(attnum)->words[0];
}

/* Return all words, as "error, wait". */
char *
queue_choice_list(int attnum)
{
	const Choice *choice = find_choice(attnum);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < MAX_WORDS && choice->words[i] != NULL; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", choice->words[i]);
	return list.data;
}

static const Choice *
find_choice(int attnum)
{
	for (int i = 0; i < lengthof(choices); i++)
	{
		if (choices[i].attnum == attnum)
			return &choices[i];
	}
	return NULL;
}
