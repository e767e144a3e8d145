# Functions that every apply script calls, on every platform. Needs only sh and base tools, and of the platform's own
# prelude: WORK (a directory that a restart empties), lock (held while descriptor 9 is open), decode (base64),
# written PATH, token.
# Protocol, on standard output: lines of tab-separated fields.
#   stale                       the inventory is not the one the plan was made against; nothing was done
#   held                        the hold file is there; nothing was done
#   busy                        another apply holds the lock; nothing was done
#   done NUMBER                 a change was carried out
#   failed NUMBER TEXT          it was not, and why; later changes of the same owner were left out
#   skipped NUMBER              left out for that reason
#   --                          what follows is a fresh observation

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
trap '' HUP PIPE # an apply that began ends, also when the connection does not live to see it

ETC=/etc/reconciler
STATE=/var/lib/reconciler
INVENTORY=$STATE/inventory
failed=' '

step() { :; }

fail() {
    echo "$1"
    return 1
}

# begin TOKEN: locks, checks, and writes down (standard input) all that will be ours, before any of it is.
begin() {
    mkdir -p "$ETC" "$STATE" "$WORK" || exit
    lock || { echo busy; exit 0; }
    [ ! -e "$ETC/hold" ] || { echo held; exit 0; }
    [ "$(token)" = "$1" ] || { echo stale; exit 0; }
    write_inventory || exit
}

# The serial changes with every apply: a plan made before another one is stale even if the entries are the same.
write_inventory() {
    serial=$(sed -n '1s/^# serial //p' "$INVENTORY" 2>/dev/null)
    { echo "# serial $((${serial:-0} + 1))" && cat; } >"$INVENTORY.new" && mv "$INVENTORY.new" "$INVENTORY"
}

disown() {
    KEY=$1 awk -F '\t' '$2 != ENVIRON["KEY"]' "$INVENTORY" >"$INVENTORY.new"
    mv "$INVENTORY.new" "$INVENTORY"
}

# own KEY ENTRY: what was there before is gone, so its entry says only what is there now.
own() {
    KEY=$1 ENTRY=$2 awk -F '\t' '$2 == ENVIRON["KEY"] { print ENVIRON["ENTRY"]; next } 1' "$INVENTORY" >"$INVENTORY.new"
    mv "$INVENTORY.new" "$INVENTORY"
}

# run NUMBER OWNER [OWNER...]: a change that fails stops its owner, and those who wait for something of that owner's;
# one of the host's own ("-") stops everything.
run() {
    for owner in - "$@"; do
        case $failed in *" $owner "*) failed="$failed$2 "; printf 'skipped\t%s\n' "$1"; return ;; esac
    done
    (set -e; "change_$1") >"$WORK/log" 2>&1 </dev/null
    status=$?
    if [ $status -eq 0 ]; then
        printf 'done\t%s\n' "$1"
    else
        failed="$failed$2 "
        [ -s "$WORK/log" ] || echo "exit status $status" >"$WORK/log"
        printf 'failed\t%s\t%s\n' "$1" "$(tail -n 8 "$WORK/log" | tr '\n\t' '  ' | tail -c 800)"
    fi
}

# finish: prints the new observation. Archives that were sent and not unpacked belong to applies that were killed.
finish() {
    rm -f "$WORK/log" "$STATE"/incoming/*
    # who looked while this went on saw half of it: with a serial of its own the end makes that look stale too
    sed 1d "$INVENTORY" | write_inventory
    exec 9>&-
    echo --
    observe | dd obs=64k 2>/dev/null # as steps.observation says
}

# put PATH MODE OWNER: standard input, base64, becomes the file, at once or not at all.
put() {
    [ -d "${1%/*}" ] || mkdir -p "${1%/*}"
    decode >"$1.new~"
    chown "$3" "$1.new~"
    chmod "$2" "$1.new~"
    over "$1.new~" "$1"
    written "$1"
}

# over NEW PATH: a rename. mv would move into a directory, also into one at the end of a link; one that is not empty is
# somebody's, and stays.
over() {
    if [ -d "$2" ]; then
        if [ -L "$2" ]; then rm -f "$2"; else rmdir "$2"; fi
    fi
    mv -f "$1" "$2"
}

directory() {
    [ -d "$1" ] && [ ! -L "$1" ] || rm -f "$1"
    mkdir -p "$1"
    chown "$3" "$1"
    chmod "$2" "$1"
}

link() {
    [ -d "${1%/*}" ] || mkdir -p "${1%/*}"
    rm -f "$1.new~"
    ln -s "$2" "$1.new~"
    over "$1.new~" "$1"
    written "$1"
}

delete() {
    if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1" 2>/dev/null || :; else rm -f "$1" "$1.new~"; fi
    written "$1"
}
