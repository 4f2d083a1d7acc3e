# Turns the migrations named on the command line (sql/DRIVER/NNNN_name.sql) into a C table.
function c_string(line) {
    gsub(/\\/, "&&", line)
    gsub(/"/, "\\\"", line)
    return "    \"" line "\\n\""
}
BEGIN { print "#include \"master/store/migrations.h\"\n\nconst struct migration migrations[] = {" }
FNR == 1 {
    if (NR > 1)
        print "    },"
    count = split(FILENAME, part, "/")
    number = part[count]
    sub(/_.*/, "", number)
    printf "    {\"%s\", %d, \"%s\",\n", part[count - 1], number, part[count]
}
{ print c_string($0) }
END {
    if (NR > 0)
        print "    },"
    print "};\n\nconst size_t migrations_count = sizeof migrations / sizeof *migrations;"
}
