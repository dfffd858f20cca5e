/*-------------------------------------------------------------------------
 *
 * selector.c
 *		Selectors: which messages a caller wants, by what is in them.
 *
 * A selector is a jsonpath, which PostgreSQL's own functions evaluate over an
 * object with seven keys that stands for the message.  A path that yields one
 * boolean is a predicate: as jsonb_path_match() has it, true matches.  Any
 * other matches if it yields something, as in jsonb_path_exists().
 *
 * Which of the two a path is can mostly be told by its outermost operator: a
 * comparison, say, yields true, false, or null where it cannot be told, and
 * never anything else.  Other paths are asked for their values only if they
 * have any, because one of these might be a boolean.
 *
 * What a message holds must not fail a consumer, or one message would stop all
 * of them.  So errors are suppressed, which those functions do of themselves,
 * and dates are compared with times in the time zone of the session, because
 * the functions that know no time zone raise an error there whatever they are
 * told.  Left is an error for which no message is needed: a variable, which
 * nobody could give a value.  It is raised when the selector is made.
 *
 * The object is built for each message anew.  The payload is its dearest part,
 * if it is read from TOAST.  So a key that the path does not name, and cannot
 * reach otherwise, is not in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "common/compat.h"
#include "table/selector.h"

/* The keys of the object, in the order in which jsonb has them */
typedef enum SelectorKey
{
	KEY_ID,
	KEY_ATTEMPT,
	KEY_HEADERS,
	KEY_PAYLOAD,
	KEY_PRIORITY,
	KEY_GROUP,
	KEY_CORRELATION
} SelectorKey;

static const char *const key_names[] = {
	"id", "attempt", "headers", "payload", "priority", "group_key",
	"correlation_id"
};

#define NUM_KEYS	lengthof(key_names)

struct QueueSelector
{
	Datum		path;
	Datum		no_variables;	/* an empty object */
	bool		is_predicate;	/* it yields true, false or null */
	bool		raises;
	bool		wants[NUM_KEYS];
	MemoryContext context;		/* of all this */
	MemoryContext row_context;	/* reset for each message */
};

static bool is_predicate(JsonPath *path);
static void check_variables(const char *text);
static void find_keys(QueueSelector *selector, const char *text);
static bool evaluate(QueueSelector *selector, Datum message);
static bool call(QueueSelector *selector, PGFunction function, Datum message,
				 Datum *result);
static Datum make_message(const QueueSelector *selector,
						  const SelectorInput *input);
static Size size_of(const JsonbValue *value);
static JEntry append(char *data, Size *length, const JsonbValue *value);
static void set_value(JsonbValue *value, SelectorKey key,
					  const SelectorInput *input);
static void set_int(JsonbValue *value, int64 n);
static void set_bytes(JsonbValue *value, const char *bytes, int length);
static void set_text(JsonbValue *value, NullableDatum from);
static void set_jsonb(JsonbValue *value, NullableDatum from);

/*
 * queue_selector_make
 *		Prepare a selector, in the current memory context.
 */
QueueSelector *
queue_selector_make(Datum jsonpath, bool raises)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "queue selector",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	QueueSelector *selector = palloc0(sizeof(QueueSelector));
	JsonPath   *path = DatumGetJsonPathPCopy(jsonpath);
	char	   *text;

	selector->path = PointerGetDatum(path);
	selector->no_variables = DirectFunctionCall1(jsonb_in,
												 CStringGetDatum("{}"));
	selector->is_predicate = is_predicate(path);
	selector->raises = raises;
	selector->context = context;
	selector->row_context = AllocSetContextCreate(context,
												  "queue selector message",
												  ALLOCSET_DEFAULT_SIZES);
	text = DatumGetCString(DirectFunctionCall1(jsonpath_out, selector->path));

	check_variables(text);
	find_keys(selector, text);
	MemoryContextSwitchTo(old);
	return selector;
}

/* Free all of its memory. */
void
queue_selector_free(QueueSelector *selector)
{
	MemoryContextDelete(selector->context);
}

/* Is the path an operator that yields true, false or null? */
static bool
is_predicate(JsonPath *path)
{
	JsonPathItem item;

	jspInit(&item, path);
	if (jspHasNext(&item))
		return false;			/* a method of that, say */
	switch (item.type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiNot:
		case jpiIsUnknown:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiExists:
		case jpiStartsWith:
		case jpiLikeRegex:
			return true;
		default:
			return false;
	}
}

/*
 * check_variables
 *		Raise 42704 if the path, in its normal form, has a variable.
 *
 * There it looks like $"name", and strings are in double quotes.
 */
static void
check_variables(const char *text)
{
	bool		is_quoted = false;

	for (const char *p = text; *p != '\0'; p++)
	{
		if (is_quoted && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '"')
			is_quoted = !is_quoted;
		else if (!is_quoted && *p == '$' && p[1] == '"')
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("a selector cannot have variables"),
					 errdetail("The selector is %s.", text),
					 errhint("Put the value into the jsonpath, for example with format(...)::jsonpath and to_json().")));
	}
}

/*
 * find_keys
 *		Find out which keys of the message the path can reach.
 *
 * By their names, or all of them by a wildcard.  Names that are no keys do no
 * harm here, nor do products.
 */
static void
find_keys(QueueSelector *selector, const char *text)
{
	bool		wants_all = strchr(text, '*') != NULL ||
		strstr(text, "keyvalue") != NULL;

	for (int i = 0; i < NUM_KEYS; i++)
		selector->wants[i] = wants_all ||
			strstr(text, psprintf("\"%s\"", key_names[i])) != NULL;
}

/* Does it ask for the attempt, which the row alone does not tell? */
bool
queue_selector_wants_attempt(const QueueSelector *selector)
{
	return selector != NULL && selector->wants[KEY_ATTEMPT];
}

/*
 * queue_selector_matches
 *		Returns true if the message whose row is in the slot matches, as what
 *		this attempt would deliver.
 */
bool
queue_selector_matches(QueueSelector *selector, MessageRow *row, int attempt)
{
	TupleTableSlot *slot = row->slot;
	SelectorInput input;

	if (selector == NULL)
		return true;
	slot_getsomeattrs(slot, Anum_message_payload);
	input.id = row->id;
	input.priority = row->priority;
	input.attempt = attempt;
	input.group_key.value = slot->tts_values[Anum_message_group_key - 1];
	input.group_key.isnull = slot->tts_isnull[Anum_message_group_key - 1];
	input.correlation_id.value =
		slot->tts_values[Anum_message_correlation_id - 1];
	input.correlation_id.isnull =
		slot->tts_isnull[Anum_message_correlation_id - 1];
	input.headers.value = slot->tts_values[Anum_message_headers - 1];
	input.headers.isnull = slot->tts_isnull[Anum_message_headers - 1];
	input.payload.value = slot->tts_values[Anum_message_payload - 1];
	input.payload.isnull = slot->tts_isnull[Anum_message_payload - 1];
	return queue_selector_matches_input(selector, &input);
}

/* The same for a message that is no row. */
bool
queue_selector_matches_input(QueueSelector *selector,
							 const SelectorInput *input)
{
	MemoryContext old;
	bool		result;

	if (selector == NULL)
		return true;
	old = MemoryContextSwitchTo(selector->row_context);
	result = evaluate(selector, make_message(selector, input));
	MemoryContextSwitchTo(old);
	MemoryContextReset(selector->row_context);
	return result;
}

/*
 * evaluate
 *		Does this object match?
 *
 * A path that has values may still have met an error, behind the first of
 * them, which is all that jsonb_path_exists() looks for in lax mode.  As far as
 * that function can tell there is none.
 */
static bool
evaluate(QueueSelector *selector, Datum message)
{
	Datum		result;
	Jsonb	   *values;
	JsonbValue *value;

	if (selector->is_predicate)
		return call(selector, jsonb_path_match_tz, message, &result) &&
			DatumGetBool(result);
	if (!call(selector, jsonb_path_exists_tz, message, &result) ||
		!DatumGetBool(result))
		return false;
	(void) call(selector, jsonb_path_query_array_tz, message, &result);
	values = DatumGetJsonbP(result);
	if (JB_ROOT_COUNT(values) != 1)
		return true;
	value = getIthJsonbValueFromContainer(&values->root, 0);
	return value->type != jbvBool || value->val.boolean;
}

/*
 * Call one of PostgreSQL's functions on the message; false: the result is null,
 * which may mean an error.
 */
static bool
call(QueueSelector *selector, PGFunction function, Datum message,
	 Datum *result)
{
	LOCAL_FCINFO(fcinfo, 4);

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = message;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = selector->path;
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = selector->no_variables;
	fcinfo->args[2].isnull = false;
	fcinfo->args[3].value = BoolGetDatum(!selector->raises);
	fcinfo->args[3].isnull = false;
	*result = function(fcinfo);
	return !fcinfo->isnull;
}

/*
 * make_message
 *		Build the object that the path is evaluated over.
 *
 * It has the keys that the path can reach.  The functions for jsonb would take
 * the values apart and put them together again, so this writes what they would
 * (JsonbContainer), with values of the row as they are.
 */
static Datum
make_message(const QueueSelector *selector, const SelectorInput *input)
{
	JsonbValue	values[NUM_KEYS];
	JsonbValue	names[NUM_KEYS];
	int			n = 0;
	Size		size = 0;
	Size		length = 0;
	Jsonb	   *message;
	char	   *data;

	for (int i = 0; i < NUM_KEYS; i++)
	{
		if (!selector->wants[i])
			continue;
		set_bytes(&names[n], key_names[i], strlen(key_names[i]));
		set_value(&values[n], (SelectorKey) i, input);
		size += size_of(&names[n]) + size_of(&values[n]);
		n++;
	}
	size += offsetof(Jsonb, root.children) + 2 * n * sizeof(JEntry);
	message = palloc0(size);
	message->root.header = n | JB_FOBJECT;
	data = (char *) &message->root.children[2 * n];
	for (int i = 0; i < n; i++)
		message->root.children[i] = append(data, &length, &names[i]);
	for (int i = 0; i < n; i++)
		message->root.children[n + i] = append(data, &length, &values[i]);
	if (n > 0)
		message->root.children[0] |= JENTRY_HAS_OFF;	/* it ends there */
	SET_VARSIZE(message, data + length - (char *) message);
	return JsonbPGetDatum(message);
}

/* The most that a value takes, with what it may be aligned by */
static Size
size_of(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return value->val.string.len;
		case jbvNumeric:
			return VARSIZE_ANY(value->val.numeric) + sizeof(int32);
		case jbvBinary:
			return value->val.binary.len + sizeof(int32);
		default:
			return 0;
	}
}

/* Append a value to the data of a container; returns what tells of it there. */
static JEntry
append(char *data, Size *length, const JsonbValue *value)
{
	Size		begin = *length;
	JEntry		type = JENTRY_ISNULL;
	const void *bytes = NULL;
	Size		size = 0;

	switch (value->type)
	{
		case jbvString:
			type = JENTRY_ISSTRING;
			bytes = value->val.string.val;
			size = value->val.string.len;
			break;
		case jbvNumeric:
			type = JENTRY_ISNUMERIC;
			bytes = value->val.numeric;
			size = VARSIZE_ANY(value->val.numeric);
			break;
		case jbvBinary:
			type = JENTRY_ISCONTAINER;
			bytes = value->val.binary.data;
			size = value->val.binary.len;
			break;
		case jbvBool:
			return value->val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		default:
			return JENTRY_ISNULL;
	}
	if (type != JENTRY_ISSTRING)
		*length = INTALIGN(*length);
	memcpy(data + *length, bytes, size);
	*length += size;
	return type | (JEntry) (*length - begin);
}

/* The value of a key */
static void
set_value(JsonbValue *value, SelectorKey key, const SelectorInput *input)
{
	value->type = jbvNull;
	switch (key)
	{
		case KEY_ID:
			set_int(value, input->id);
			break;
		case KEY_ATTEMPT:
			set_int(value, input->attempt);
			break;
		case KEY_HEADERS:
			set_jsonb(value, input->headers);
			break;
		case KEY_PAYLOAD:
			set_jsonb(value, input->payload);
			break;
		case KEY_PRIORITY:
			set_int(value, input->priority);
			break;
		case KEY_GROUP:
			set_text(value, input->group_key);
			break;
		case KEY_CORRELATION:
			set_text(value, input->correlation_id);
			break;
	}
}

/* The same of a type; a null stays one. */
static void
set_int(JsonbValue *value, int64 n)
{
	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(n);
}

static void
set_bytes(JsonbValue *value, const char *bytes, int length)
{
	value->type = jbvString;
	value->val.string.val = unconstify(char *, bytes);
	value->val.string.len = length;
}

static void
set_text(JsonbValue *value, NullableDatum from)
{
	text	   *t;

	if (from.isnull)
		return;
	t = DatumGetTextPP(from.value);
	set_bytes(value, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/*
 * A container may be larger than one that is in another one can be; then it is
 * null.
 */
static void
set_jsonb(JsonbValue *value, NullableDatum from)
{
	Jsonb	   *jsonb;

	if (from.isnull)
		return;
	jsonb = DatumGetJsonbP(from.value);
	if (JB_ROOT_IS_SCALAR(jsonb))
		(void) JsonbExtractScalar(&jsonb->root, value);
	else if (VARSIZE(jsonb) <= JENTRY_OFFLENMASK)
	{
		value->type = jbvBinary;
		value->val.binary.data = &jsonb->root;
		value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
}
