#!/bin/sh
# GNU's tools under the options that FreeBSD's have: what only GNU knows fails with FreeBSD's error, what FreeBSD spells
# otherwise is translated, all else is GNU's own. One file for all of them, by the name it is called; sh because these
# are called most often.

tool=${0##*/}
real=/.machine/bin/$tool

refuse() { # STATUS TEXT
    printf '%s\n' "$2" >&2
    exit "$1"
}

illegal() { # LETTER [STATUS]
    refuse "${2:-1}" "$tool: illegal option -- $1"
}

# no_words STATUS LETTERS ARGUMENTS...: refuses every --word, and these letters, before "--" or the first operand.
no_words() {
    status=$1 letters=$2
    shift 2
    for word in "$@"; do
        case $word in
            --) return ;;
            --*) illegal - "$status" ;;
            -?*) rest=${word#-}
                while [ -n "$rest" ]; do
                    letter=${rest%"${rest#?}"} rest=${rest#?}
                    case $letters in *"$letter"*) illegal "$letter" "$status" ;; esac
                done ;;
            *) return ;;
        esac
    done
}

seconds() { # VALUE as of date -v, e.g. +5M
    unit=${1#"${1%?}"}
    amount=${1%?}
    case $unit in
        y) echo "$amount years" ;; m) echo "$amount months" ;; w) echo "$amount weeks" ;; d) echo "$amount days" ;;
        H) echo "$amount hours" ;; M) echo "$amount minutes" ;; S) echo "$amount seconds" ;;
        *) refuse 1 "date: $1: Cannot apply date adjustment" ;;
    esac
}

case $tool in
grep | egrep | fgrep)
    for word in "$@"; do
        case $word in
            --perl-regexp | -P | -[a-zA-Z]P) refuse 2 "usage: grep [-abcDEFGHhIiLlmnOoPqRSsUVvwxz] [-A num] [-B num] [-C num]" ;;
            -- | [!-]*) break ;;
        esac
    done ;;
sed)
    case $1 in
        -i)
            # The word after -i is the suffix of the backup.
            case $2 in
                '') shift 2; set -- -i "$@" ;;
                .*) suffix=$2; shift 2; set -- "-i$suffix" "$@" ;;
                *) refuse 1 "sed: 1: \"${3:-$2}\": extra characters at the end of h command" ;;
            esac ;;
        --* | -z | -s) illegal "${1#-}" ;;
    esac ;;
find)
    [ $# -gt 0 ] || refuse 1 "usage: find [-H | -L | -P] [-EXdsx] [-f path] path ... [expression]"
    for word in "$@"; do
        case $word in
            -printf | -fprintf | -fprint | -regextype | -executable | -writable | -readable | -xtype | -ls0)
                refuse 1 "find: $word: unknown primary or operator" ;;
        esac
    done
    case $1 in -x) shift; set -- "$@" ; first=$1; shift; set -- "$first" -xdev "$@" ;; esac ;;
date)
    when=''
    utc=''
    while [ $# -gt 0 ]; do
        case $1 in
            -d | -d* | --*) refuse 1 "date: illegal option -- d
usage: date [-jnRu] [-I[date|hours|minutes|seconds]] [-f input_fmt]" ;;
            -r) when="@$2"; case $2 in *[!0-9]*) when="@$(/.machine/bin/stat -c %Y "$2")" || exit 1 ;; esac; shift 2 ;;
            -j | -n) shift ;;
            -u) utc=-u; shift ;;
            -ju | -uj) utc=-u; shift ;;
            -v) when="$when $(seconds "$2")"; shift 2 ;;
            -v*) when="$when $(seconds "${1#-v}")"; shift ;;
            -f)
                case $2 in
                    %s) when="@$3" ;;
                    *) when=$(printf %s "$3" | /.machine/bin/tr T ' ') ;;
                esac
                shift 3 ;;
            *) break ;;
        esac
    done
    [ -z "$when" ] || set -- -d "$when" "$@"
    [ -z "$utc" ] || set -- -u "$@" ;;
cp) no_words 64 tTubS "$@" ;;
mv) no_words 64 tTubSZ "$@" ;;
ln) no_words 1 tTrbS "$@" ;;
readlink) no_words 1 emz "$@" ;;
realpath)
    no_words 1 emszLP "$@"
    set -- -e "$@" ;;
install) no_words 64 Dt "$@"
    # FreeBSD's -S (safe) is how GNU's works anyway; -b keeps a backup in both.
    n=$#
    while [ "$n" -gt 0 ]; do
        word=$1; shift; n=$((n - 1))
        case $word in
            -S | -l | -M | -U) ;;
            -B) set -- "$@" -S "$1"; shift; n=$((n - 1)) ;;
            *) set -- "$@" "$word" ;;
        esac
    done ;;
mktemp)
    for word in "$@"; do
        case $word in --*) refuse 1 "mktemp: unrecognized option \`$word'
usage: mktemp [-d] [-p tmpdir] [-q] [-t prefix] [-u] template ..." ;; esac
    done
    case $1 in -t) set -- -p "${TMPDIR:-/tmp}" "$2.XXXXXXXX" ;; esac
    case "$1 $2" in "-d -t") set -- -d -p "${TMPDIR:-/tmp}" "$3.XXXXXXXX" ;; esac ;;
ls)
    for word in "$@"; do
        case $word in
            --color | --color=*) ;;
            --) break ;;
            --*) refuse 1 "ls: unrecognized option \`$word'
usage: ls [-ABCFGHILPRSTUWZabcdfghiklmnopqrstuvwxy1,] [--color=when] [-D format] [file ...]" ;;
        esac
    done
    "$real" "$@" || exit 1
    exit 0 ;;
wc)
    no_words 1 "" "$@"
    # Counts are padded: what is in $(wc -l <file) begins with blanks.
    "$real" "$@" | /usr/bin/awk '{
        line = ""
        for (i = 1; i <= NF && i <= 3 && $i ~ /^[0-9]+$/; i++) line = line sprintf(" %7d", $i)
        for (; i <= NF; i++) line = line " " $i
        print line
    }'
    exit ;;
tar)
    for word in "$@"; do
        case $word in
            --transform* | --sort* | --mtime* | --owner* | --group* | --xform* | --absolute-names | --warning*)
                refuse 1 "tar: Option $word is not supported" ;;
        esac
    done
    n=$#
    while [ "$n" -gt 0 ]; do
        word=$1; shift; n=$((n - 1))
        case $word in
            --no-fflags | --fflags | --no-mac-metadata | --nopreserveHFSCompression | --no-safe-writes | --safe-writes) ;;
            --uid) set -- "$@" "--owner=$1"; shift; n=$((n - 1)) ;;
            --gid) set -- "$@" "--group=$1"; shift; n=$((n - 1)) ;;
            *) set -- "$@" "$word" ;;
        esac
    done
    "$real" "$@" || exit 1
    exit 0 ;;
xargs) case $1 in -d* | --*) illegal "${1#-}" ;; esac ;;
du) no_words 64 b "$@" ;;
id) no_words 1 Zz "$@" ;;
sort | split | nl | tail | head) ;;
chmod | chown | mkdir | rmdir | rm | touch | tee | cat | wc | cut | tr | basename | dirname | env | timeout | truncate | uniq | paste)
    case $tool:$1 in
        timeout:--foreground | timeout:--preserve-status) shift ;;
        env:*) case $1 in --*) illegal - ;; esac ;;
        *) no_words 1 "" "$@" ;;
    esac ;;
esac
exec "$real" "$@"
