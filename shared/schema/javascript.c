#include "shared/schema/javascript.h"

#include <string.h>

/* What \s has beyond PCRE2's: no-break spaces, and all separators of Unicode. */
#define MORE_SPACES "\xC2\xA0\xEF\xBB\xBF\\p{Z}"

/* General categories by the long names that PCRE2 doesn't know. */
static const struct {
    const char *name, *category;
} categories[] = {
    {"Letter", "L"},
    {"Cased_Letter", "L&"},
    {"Uppercase_Letter", "Lu"},
    {"Lowercase_Letter", "Ll"},
    {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"},
    {"Other_Letter", "Lo"},
    {"Mark", "M"},
    {"Combining_Mark", "M"},
    {"Nonspacing_Mark", "Mn"},
    {"Spacing_Mark", "Mc"},
    {"Enclosing_Mark", "Me"},
    {"Number", "N"},
    {"Decimal_Number", "Nd"},
    {"digit", "Nd"},
    {"Letter_Number", "Nl"},
    {"Other_Number", "No"},
    {"Punctuation", "P"},
    {"punct", "P"},
    {"Connector_Punctuation", "Pc"},
    {"Dash_Punctuation", "Pd"},
    {"Open_Punctuation", "Ps"},
    {"Close_Punctuation", "Pe"},
    {"Initial_Punctuation", "Pi"},
    {"Final_Punctuation", "Pf"},
    {"Other_Punctuation", "Po"},
    {"Symbol", "S"},
    {"Math_Symbol", "Sm"},
    {"Currency_Symbol", "Sc"},
    {"Modifier_Symbol", "Sk"},
    {"Other_Symbol", "So"},
    {"Separator", "Z"},
    {"Space_Separator", "Zs"},
    {"Line_Separator", "Zl"},
    {"Paragraph_Separator", "Zp"},
    {"Other", "C"},
    {"Control", "Cc"},
    {"cntrl", "Cc"},
    {"Format", "Cf"},
    {"Surrogate", "Cs"},
    {"Private_Use", "Co"},
    {"Unassigned", "Cn"},
};

/* Behind "gc=" or "sc=" and their like; scripts have their names in both. */
static struct str property_value(struct str property)
{
    static const char *const prefixes[] = {
        "General_Category=", "gc=", "Script=", "sc=", "Script_Extensions=", "scx="};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        struct str prefix = str_of(prefixes[i]);
        if (str_starts(property, prefix))
            return (struct str){property.at + prefix.len, property.len - prefix.len};
    }
    return property;
}

/* "{Letter}" behind \p or \P; how many bytes it has. */
static size_t write_property(struct str rest, struct buf *out)
{
    const char *end = rest.len > 0 && rest.at[0] == '{' ? memchr(rest.at, '}', rest.len) : NULL;
    if (!end)
        return 0;
    struct str value = property_value((struct str){rest.at + 1, (size_t)(end - rest.at) - 1});
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (str_eq(value, str_of(categories[i].name)))
            value = str_of(categories[i].category);
    buf_printf(out, "{%.*s}", STR_ARG(value));
    return (size_t)(end - rest.at) + 1;
}

/* A set can't hold what is no space, so there \S stays PCRE2's. */
static bool write_space(char letter, bool in_set, struct buf *out)
{
    if (letter == 's')
        buf_puts(out, in_set ? "\\s" MORE_SPACES : "[\\s" MORE_SPACES "]");
    else if (letter == 'S' && !in_set)
        buf_puts(out, "[^\\s" MORE_SPACES "]");
    else
        return false;
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What stands behind a backslash; how many bytes of it were taken, 0 for what is no escape. */
static size_t write_escape(struct str rest, bool in_set, struct buf *out)
{
    char letter = rest.len > 0 ? rest.at[0] : '\0';
    if (is_letter(letter) && !strchr("dDsSwWbBcxupPkfnrtv", letter))
        return 0;
    if (rest.len == 0 || write_space(letter, in_set, out))
        return 1;
    buf_putc(out, '\\');
    buf_putc(out, letter);
    if (letter != 'p' && letter != 'P')
        return 1;
    return 1 + write_property((struct str){rest.at + 1, rest.len - 1}, out);
}

bool javascript_translate(struct str source, struct buf *out, size_t *offset, struct error *error)
{
    bool in_set = false;
    for (size_t i = 0; i < source.len; i++) {
        char c = source.at[i];
        if (c != '\\' || i + 1 == source.len) {
            in_set = c == '[' || (in_set && c != ']');
            buf_putc(out, c);
            continue;
        }
        size_t taken =
            write_escape((struct str){source.at + i + 1, source.len - i - 1}, in_set, out);
        if (taken == 0) {
            *offset = i;
            return error_set(error, "\\%c is no escape", source.at[i + 1]);
        }
        i += taken;
    }
    return true;
}
