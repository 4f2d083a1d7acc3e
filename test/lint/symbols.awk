# Reads `nm -gP` of libshared.a, libworker.a and libmaster.a, each file named after its archive, and
# prints each symbol that an archive needs and may not have.

function archive()
{
    return FILENAME ~ /libshared/ ? "shared" : FILENAME ~ /libworker/ ? "worker" : "master"
}

/:$/ || NF < 2 { next }

$2 == "U" || $2 == "w" || $2 == "v" {
    needed[archive(), $1] = 1
    next
}

{ defined[archive(), $1] = 1 }

function breach(name, symbol, why)
{
    print "lib" name ".a: needs " symbol ", " why
    breaches++
}

# The archives that stand above `name`: it must link without them.
function check_layers(name, symbol)
{
    if ((name, symbol) in defined)
        return
    if (name == "shared" && ("worker", symbol) in defined)
        breach(name, symbol, "which is worker's")
    if (name != "master" && ("master", symbol) in defined && !(("shared", symbol) in defined))
        breach(name, symbol, "which is master's")
}

function check_libraries(name, symbol)
{
    if (symbol ~ /^__atomic_/)
        breach(name, symbol, "which is libatomic's and takes locks")
    if (name != "master" && symbol ~ /^(PQ[a-z]|lo_|sqlite3_|yaml_)/)
        breach(name, symbol, "a library that only master may use")
    if (name != "worker" && symbol ~ /^curl_/)
        breach(name, symbol, "a library that only worker may use")
}

END {
    for (key in needed) {
        split(key, part, SUBSEP)
        check_layers(part[1], part[2])
        check_libraries(part[1], part[2])
    }
    exit breaches > 0
}
