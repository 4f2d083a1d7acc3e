# Turns the metaschemas named on the command line into a C table.
function c_string(line) {
    gsub(/\\/, "&&", line)
    gsub(/"/, "\\\"", line)
    return "     \"" line "\\n\""
}
BEGIN { print "#include \"shared/schema/metaschemas.h\"\n\nconst struct metaschema_text metaschema_texts[] = {" }
FNR == 1 {
    if (NR > 1)
        print "    },"
    name = FILENAME
    sub(/^.*metaschemas\//, "", name)
    sub(/\.json$/, "", name)
    printf "    {\"%s\",\n", name
}
{ print c_string($0) }
END { print "    },\n};\n\nconst size_t metaschema_texts_count = sizeof metaschema_texts / sizeof *metaschema_texts;" }
