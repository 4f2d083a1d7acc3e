# awk -f includes.awk rules.txt FILE…: prints each include that rules.txt does not allow.

function begins(text, prefix)
{
    return substr(text, 1, length(prefix)) == prefix
}

# A header is named as it is, or by a folder that ends in a slash.
function names(pattern, header)
{
    return pattern == header || (pattern ~ /\/$/ && begins(header, pattern))
}

function read_rule(    i, what)
{
    if ($1 == "system") {
        for (i = 2; i <= NF; i++)
            system_header[$i] = 1
    } else if ($1 == "library") {
        for (i = 3; i <= NF; i++)
            library_of[$i] = $2
        library[$2] = 1
    } else if (NF >= 2 && ($2 == "=" || $2 == "+")) {
        places[++place_count] = $1
        inherits[$1] = $2 == "+"
        allowed[$1] = ""
        for (i = 3; i <= NF; i++) {
            what = $i
            if (what ~ /^</ && !(substr(what, 2, length(what) - 2) in library))
                breach(FILENAME ":" FNR, "unknown library " what)
            allowed[$1] = allowed[$1] " " what
        }
    } else {
        breach(FILENAME ":" FNR, "not a rule: " $0)
    }
}

function breach(where, what)
{
    print where ": " what
    breaches++
}

# The longest place that `path` begins with and that is shorter than `below`.
function place_of(path, below,    i, best)
{
    best = ""
    for (i = 1; i <= place_count; i++)
        if (begins(path, places[i]) && length(places[i]) > length(best) &&
            length(places[i]) < below)
            best = places[i]
    return best
}

# All that `path` may include, one list.
function allowance(path,    place, list)
{
    place = place_of(path, 1000)
    if (place == "")
        return "?"
    list = allowed[place]
    while (inherits[place]) {
        place = place_of(path, length(place))
        if (place == "")
            break
        list = list " " allowed[place]
    }
    return list " ."
}

# The longest pattern that names the header decides; one with "!" takes back.
function may_quote(list, header,    patterns, count, i, pattern, best, verdict)
{
    count = split(list, patterns, " ")
    best = 0
    verdict = 0
    for (i = 1; i <= count; i++) {
        pattern = patterns[i]
        sub(/^!/, "", pattern)
        if (names(pattern, header) && length(pattern) > best) {
            best = length(pattern)
            verdict = patterns[i] !~ /^!/
        }
    }
    return verdict
}

function library_name(header,    pattern)
{
    for (pattern in library_of)
        if (names(pattern, header))
            return library_of[pattern]
    return ""
}

function is_system(header,    pattern)
{
    for (pattern in system_header)
        if (names(pattern, header))
            return 1
    return 0
}

function check_angle(list, header,    name)
{
    name = library_name(header)
    if (name == "" && !is_system(header))
        breach(FILENAME ":" FNR, "<" header "> is in no list of rules.txt")
    else if (name != "" && index(list " ", " <" name "> ") == 0)
        breach(FILENAME ":" FNR, "<" header ">: " name " may not be used here")
}

function check_quoted(list, header,    own)
{
    own = FILENAME
    sub(/\.[a-z]+$/, ".h", own)
    if (header != own && !may_quote(list, header))
        breach(FILENAME ":" FNR, "\"" header "\" may not be used here")
}

FILENAME == ARGV[1] {
    sub(/#.*/, "")
    if (NF)
        read_rule()
    next
}

FNR == 1 {
    list = allowance(FILENAME)
    if (list == "?")
        breach(FILENAME ":1", "no rule for this folder")
}

/^[ \t]*#[ \t]*include/ && list != "?" {
    header = $0
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", header)
    mark = substr(header, 1, 1)
    header = substr(header, 2)
    sub(/[>"].*/, "", header)
    if (mark == "<")
        check_angle(list, header)
    else if (mark == "\"")
        check_quoted(list, header)
    else
        breach(FILENAME ":" FNR, "an include that cannot be read: " $0)
}

END {
    exit breaches > 0
}
