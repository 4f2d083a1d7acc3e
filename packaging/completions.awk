# Completions of a shell from the synopsis of promptgate(8):
#   awk -v shell=bash|zsh|fish -f packaging/completions.awk man/promptgate.8

/^\.Sh /                { inside = /SYNOPSIS/ }
!inside                 { next }
/^\.Nm/                 { name = "" }
/^\.Cm / && name == ""  { take_command(); next }
/(^\.| )Fl -/           { take_flags() }

# "token create": the first word has this subcommand.
function take_command(    second)
{
    name = $2
    second = $3 ~ /^[a-z]+$/ ? $3 : ""
    if (!(name in seen))
        order[++count] = name
    seen[name] = 1
    if (second != "" && !((name, second) in have)) {
        subcommands[name] = subcommands[name] (subcommands[name] ? " " : "") second
        have[name, second] = 1
    }
    if (second != "")
        name = name " " second
}

function take_flags(    i, flag)
{
    for (i = 1; i < NF; i++)
        if ($i ~ /^\.?Fl$/ && $(i + 1) ~ /^-[a-z]/) {
            flag = "-" $(i + 1)
            if (!((name, flag) in known))
                flags[name] = flags[name] (flags[name] ? " " : "") flag
            known[name, flag] = 1
            if ($(i + 2) ~ /^(Ar|Cm|Oo)$/)
                valued[flag] = 1
        }
}

function all_commands(    i, text)
{
    for (i = 1; i <= count; i++)
        text = text (i > 1 ? " " : "") order[i]
    return text
}

# Which words may come behind which: `line` is a format of both, for each of them.
function write_cases(line,    i, n, parts, j)
{
    for (i = 1; i <= count; i++) {
        if (subcommands[order[i]] == "") {
            printf line, order[i], flags[order[i]]
            continue
        }
        printf line, order[i], subcommands[order[i]]
        n = split(subcommands[order[i]], parts, " ")
        for (j = 1; j <= n; j++)
            printf line, order[i] " " parts[j], flags[order[i] " " parts[j]]
    }
}

function write_bash()
{
    print "_promptgate()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} first= path= words i"
    print "    COMPREPLY=()\n    if [[ $prev == --config ]]; then\n        COMPREPLY=($(compgen -d -- \"$cur\"))\n        return\n    fi"
    print "    # The command is its first two words; what belongs to an option is no word of it.\n    for ((i = 1; i < COMP_CWORD; i++)); do"
    print "        if [[ ${COMP_WORDS[i]} == -* || ${COMP_WORDS[i-1]} == --config ]]; then\n            continue\n        fi"
    print "        case \"$path\" in\n            \"\") path=${COMP_WORDS[i]} first=$path ;;\n            \"$first\") path+=\" ${COMP_WORDS[i]}\" ;;\n        esac\n    done"
    print "    case \"$path\" in\n        \"\") words=\"" all_commands() "\" ;;"
    write_cases("        \"%s\") words=\"%s\" ;;\n")
    for (i = 1; i <= count; i++)
        if (subcommands[order[i]] == "")
            printf "        \"%s \"*) words=\"%s\" ;;\n", order[i], flags[order[i]]
    print "    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -F _promptgate promptgate"
}

function write_zsh()
{
    print "#compdef promptgate\nlocal -A next=("
    print "    '' '" all_commands() "'"
    write_cases("    '%s' '%s'\n")
    print ")\nlocal first=${words[2]} second=${words[3]}"
    print "if [[ ${words[CURRENT-1]} == --config ]]; then\n    _files -/\nelif (( CURRENT == 2 )); then\n    compadd -- ${=next[]}"
    print "elif (( CURRENT == 3 )); then\n    compadd -- ${=next[$first]}\nelse\n    compadd -- ${=next[$first $second]:-$next[$first]}\nfi"
}

function write_fish(    i, j, n, parts)
{
    print "complete -c promptgate -f"
    print "complete -c promptgate -n __fish_use_subcommand -a '" all_commands() "'"
    for (i = 1; i <= count; i++) {
        n = split(subcommands[order[i]], parts, " ")
        if (n > 0)
            printf "complete -c promptgate -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -a '%s'\n", order[i], subcommands[order[i]], subcommands[order[i]]
        else
            write_fish_flags("__fish_seen_subcommand_from " order[i], order[i])
        for (j = 1; j <= n; j++)
            write_fish_flags("__fish_seen_subcommand_from " order[i] "; and __fish_seen_subcommand_from " parts[j], order[i] " " parts[j])
    }
}

function write_fish_flags(condition, command,    i, n, parts)
{
    n = split(flags[command], parts, " ")
    for (i = 1; i <= n; i++)
        printf "complete -c promptgate -n '%s' -l %s%s\n", condition, substr(parts[i], 3),
               parts[i] == "--config" ? " -x -a '(__fish_complete_directories)'" : (parts[i] in valued) ? " -x" : ""
}

END {
    if (shell == "bash")
        write_bash()
    else if (shell == "zsh")
        write_zsh()
    else
        write_fish()
}
