# Functions that every apply script calls, on every platform. Needs only sh and base tools, and of the platform's own
# prelude: WORK (a directory that a restart empties), lock (held while descriptor 9 is open), decode (base64),
# written PATH, token, detached COMMAND; of data, unused DIRECTORY JAIL (fails when something is mounted in it or of it),
# wipe DIRECTORY (never across a mount) and no_dataset HOME JAIL DAY.
# Protocol, on standard output: lines of tab-separated fields.
#   stale                       the inventory is not the one the plan was made against; nothing was done
#   held                        the hold file is there; nothing was done
#   busy                        another apply holds the lock; nothing was done
#   done NUMBER                 a change was carried out
#   armed NAME WANTED           what follows is taken back unless `confirm NAME WANTED` comes in time
#   failed NUMBER TEXT          it was not, and why; later changes of the same owner were left out
#   skipped NUMBER              left out for that reason
#   token SHA                   the inventory as it is now, where another part or a confirmation follows
#   --                          it is at its end; what follows is a fresh observation, if nothing else does

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
trap '' HUP PIPE # an apply that began ends, also when the connection does not live to see it

ETC=/etc/reconciler
STATE=/var/lib/reconciler
INVENTORY=$STATE/inventory
TRANSACTIONS=$STATE/transactions
failed=' '
guarded= # whether there is a way back
armed= # where it lies (arm)

step() { :; }

fail() {
    echo "$1"
    return 1
}

# begin TOKEN: locks, checks, and writes down (standard input) all that will be ours, before any of it is.
begin() {
    mkdir -p "$ETC" "$STATE" "$WORK" || exit
    known=$(echo "$TRANSACTIONS"/*.armed)
    lock || { [ $? -eq 1 ] || exit; echo busy; exit 0; }
    [ ! -e "$ETC/hold" ] || { echo held; exit 0; }
    # what was armed while we waited has to be confirmed by a connection made after that: ours was made before
    [ "$(echo "$TRANSACTIONS"/*.armed)" = "$known" ] || { echo busy; exit 0; }
    taken_over
    [ "$(token)" = "$1" ] || { echo stale; exit 0; }
    [ -z "$guarded" ] || keep_inventory || exit
    write_inventory || exit
}

# keep_inventory: to what an apply that is taken back goes back. None is not the same as one that found no room.
keep_inventory() {
    if [ -e "$INVENTORY" ]; then cp -p "$INVENTORY" "$STATE/inventory.before"; else : >"$STATE/inventory.before"; fi
}

# The serial changes with every apply: a plan made before another one is stale even if the entries are the same. It is
# cat that says of a disk that it is full: sh says "I/O error".
write_inventory() {
    { echo "# serial $(($(serial) + 1))" | cat && cat; } >"$INVENTORY.new" && mv "$INVENTORY.new" "$INVENTORY"
}

serial() { sed -n '1s/^# serial //p' "$INVENTORY" 2>/dev/null || :; }

# ── what is taken back ──
# An apply that changes the network or the firewall may cut off whoever sent it. So before anything changes, all that it
# takes to go back lies in $TRANSACTIONS/NAME.armed, and a process waits that needs no connection, no disk space and
# nothing but sh. One rename decides: to NAME.confirmed by who came by a new connection, to NAME.reverting by who waited,
# or by the boot. The files themselves lie in $ETC/before.NAME, on the disk to which they go back.

# arm SECONDS LONGEST WANTED: standard input, the files that will change. WANTED, the digest of what is tried, is
# remembered as what cut the host off, if it does. The SECONDS begin when the work is done, of which a slow host has more
# than its own share; LONGEST is for work that hangs, or was killed.
arm() {
    name=$(serial)-$$ new=$TRANSACTIONS/new number=0
    rm -rf "$TRANSACTIONS" "$ETC"/before.*
    mkdir -p "$new" "$ETC/before.$name" && cat <&8 >"$new/script" && mv "$STATE/inventory.before" "$new/inventory" || exit
    exec 8<&-
    refusing "$3" >"$new/refused" && echo "$3" >"$new/wanted" || exit
    while read -r path; do
        number=$((number + 1)) was=-
        if [ -e "$path" ] || [ -L "$path" ]; then
            cp -RpP "$path" "$ETC/before.$name/$number" || exit
            was=$number
        fi
        printf '%s\t%s\n' "$was" "$path" || exit
    done >"$new/files" || exit
    sync # a power cut may come next
    mv "$new" "$TRANSACTIONS/$name.armed" || exit
    armed=$TRANSACTIONS/$name.armed patience=$1
    detached sh "$armed/script" wait_for "$name" "$2"
    printf 'armed\t%s %s\n' "$name" "$3"
}

# refusing DIGEST: what has cut the host off, this too
refusing() {
    tail -n 20 "$STATE/refused" 2>/dev/null
    echo "$1"
}

# wait_for NAME SECONDS: sleep(1) does not look at the clock, which an administrator may set
wait_for() {
    trap '' INT TERM
    sleep "$2"
    revert "$1"
}

# revert NAME: somebody who has the lock may be at it still, or hang: the host comes first
revert() {
    mv "$TRANSACTIONS/$1.armed" "$TRANSACTIONS/$1.reverting" 2>/dev/null || return 0
    lock || :
    revert_again "$1"
}

# revert_again NAME: whatever fails, the rest is tried
revert_again() {
    [ -d "$TRANSACTIONS/$1.reverting" ] || return 0
    (take_down) >/dev/null 2>&1
    put_back "$1"
    (bring_back) >/dev/null 2>&1
    rm -rf "$TRANSACTIONS/$1.reverting" "$ETC/before.$1"
}

# put_back NAME: by renames alone, which a full disk does not hinder. It may have been begun before: what is no longer
# kept is back already.
put_back() {
    while read -r was path; do
        kept=$ETC/before.$1/$was
        if [ "$was" = - ]; then rm -f "$path"; elif [ -e "$kept" ] || [ -L "$kept" ]; then over "$kept" "$path"; fi
        written "$path"
    done <"$TRANSACTIONS/$1.reverting/files"
    reverting=$TRANSACTIONS/$1.reverting
    [ ! -e "$reverting/refused" ] || mv -f "$reverting/refused" "$STATE/refused"
    [ ! -e "$reverting/inventory" ] || old_inventory "$reverting/inventory"
}

# old_inventory FILE: with a serial that none ever had, or who planned in between would not be stale; on a full disk the
# old one is better than none.
old_inventory() {
    sed 1d "$1" | write_inventory 2>/dev/null || mv -f "$1" "$INVENTORY"
}

# at_boot NAME: nothing runs yet: what the files say is what will be
at_boot() {
    [ -d "$TRANSACTIONS/$1.reverting" ] || mv "$TRANSACTIONS/$1.armed" "$TRANSACTIONS/$1.reverting" || return 0
    mkdir -p "$WORK"
    put_back "$1"
    rm -rf "$TRANSACTIONS/$1.reverting" "$ETC/before.$1"
}

# confirm NAME WANTED: by a connection that was made after the apply. Somebody else may have come before, and taken over.
confirm() {
    if mv "$TRANSACTIONS/$1.armed" "$TRANSACTIONS/$1.confirmed" 2>/dev/null; then
        rm -rf "$TRANSACTIONS/$1.confirmed" "$ETC/before.$1"
        no_longer_refused "$2"
    else
        tries=0
        while [ -d "$TRANSACTIONS/$1.reverting" ] && [ $tries -lt 120 ]; do sleep 0.5; tries=$((tries + 1)); done
    fi
    if [ -d "$TRANSACTIONS/$1.reverting" ] || grep -qxF "$2" "$STATE/refused" 2>/dev/null; then echo reverted; else echo confirmed; fi
}

no_longer_refused() {
    [ -e "$STATE/refused" ] || return 0
    # awk says when it found no room, whose result must not take the place of what is known
    DIGEST=$1 awk '$0 != ENVIRON["DIGEST"]' "$STATE/refused" >"$STATE/refused.new" &&
        mv "$STATE/refused.new" "$STATE/refused"
}

# taken_back NAME WANTED MANIFEST: we came by a new connection, and the jails work less than before. That may be for
# what their own documents say: what is remembered is all that was wanted.
taken_back() {
    left=$TRANSACTIONS/$1.armed
    refusing "$3" >"$left/refused.new" && mv "$left/refused.new" "$left/refused"
    sh "$left/script" revert "$1" 2>/dev/null
    confirm "$1" "$3"
}

# taken_over: an apply that nobody came back to. We did come, so the host is not cut off: it stays as it is, and what is
# missing is done now. One that is being taken back and whose process has died is taken back to the end.
taken_over() {
    for left in "$TRANSACTIONS"/*.armed; do
        [ -d "$left" ] || continue
        name=${left##*/} name=${name%.armed}
        mv "$left" "$TRANSACTIONS/$name.confirmed" 2>/dev/null || continue
        no_longer_refused "$(cat "$TRANSACTIONS/$name.confirmed/wanted")"
        rm -rf "$TRANSACTIONS/$name.confirmed" "$ETC/before.$name"
    done
    for left in "$TRANSACTIONS"/*.reverting; do
        [ -d "$left" ] || continue
        name=${left##*/} name=${name%.reverting}
        sh "$left/script" revert_again "$name" 9>&-
    done
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
    # nothing is written over what is being put back
    [ -z "$armed" ] || [ -d "$armed" ] || { echo 'it took too long, and is taken back' >&2; exit 1; }
    for owner in - "$@"; do
        case $failed in *" $owner "*) failed="$failed$2 "; printf 'skipped\t%s\n' "$1"; return ;; esac
    done
    (set -e; "change_$1") >"$WORK/log" 2>&1 </dev/null
    status=$?
    if [ $status -eq 0 ]; then
        printf 'done\t%s\n' "$1"
    else
        failed="$failed$2 "
        # a full disk may have had no room for its words
        said=$({ [ -s "$WORK/log" ] || echo "exit status $status" | cat >"$WORK/log"; tail -n 8 "$WORK/log"; } 2>&1)
        printf 'failed\t%s\t%s\n' "$1" "$(printf '%s\n' "$said" | tr '\n\t' '  ' | tail -c 800)"
    fi
}

# pause: the end of a part, where another or a confirmation follows
pause() {
    rm -f "$WORK/log"
    if [ -n "$armed" ]; then
        name=${armed##*/}
        detached sh "$armed/script" wait_for "${name%.armed}" "$patience"
    fi
    printf 'token\t%s\n' "$(token)"
    exec 9>&-
    echo --
}

# clean: archives that were sent and not unpacked belong to applies that were killed
clean() { rm -f "$STATE"/incoming/*; }

# finish: prints the new observation.
finish() {
    rm -f "$WORK/log"
    # who looked while this went on saw half of it: with a serial of its own the end makes that look stale too
    sed 1d "$INVENTORY" | write_inventory
    exec 9>&-
    echo --
    observe | dd obs=64k 2>/dev/null # as steps.observation says
}

# put PATH MODE OWNER: standard input, base64, becomes the file, at once or not at all. Whoever reads it again is told
# before: when we are killed in between, and the clock was set back since, the file would not look newer.
put() {
    [ -d "${1%/*}" ] || mkdir -p "${1%/*}"
    decode >"$1.new~"
    chown "$3" "$1.new~"
    chmod "$2" "$1.new~"
    written "$1"
    over "$1.new~" "$1"
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
    written "$1"
    over "$1.new~" "$1"
}

delete() {
    if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1" 2>/dev/null || :; else rm -f "$1" "$1.new~"; fi
    written "$1"
}

# ── data of jails that are gone ──
# It is marked, and deleted by one function alone, which a change calls that somebody has approved of. A jail's home is
# a directory of root's in which only ours stand beside what the jail could write to: so these marks are true.

# retain HOME DAY
retain() {
    [ ! -d "$1" ] || printf '%s\n' "$2" >"$1/retained"
}

# unretain HOME: what was being deleted when the apply was killed is not what comes back
unretain() {
    rest "$1" "${1##*/}"
    rm -f "$1/retained"
}

# purge HOME JAIL DAY: one rename decides. Before it all is whole; after it, it is no jail's data any more.
purge() {
    case $1 in */jails/"$2") ;; *) fail "$1 is not where the data of $2 lies" ;; esac
    no_dataset "$@"
    rest "$1" "$2"
    [ -e "$1" ] || [ -L "$1" ] || return 0
    approved "$@"
    unused "$1" "$2"
    mv "$1" "$1.purging"
    rest "$1" "$2"
}

# rest HOME JAIL: of a purge that was begun
rest() {
    [ -d "$1.purging" ] && [ ! -L "$1.purging" ] || return 0
    unused "$1.purging" "$2"
    wipe "$1.purging"
}

# approved HOME JAIL DAY: whether it is what was approved of; an empty place is what a dataset leaves
approved() {
    [ -d "$1" ] && [ ! -L "$1" ] || fail "$1 is no directory"
    [ -n "$(ls -A "$1")" ] || return 0
    [ "$(cat "$1/owner" 2>/dev/null)" = "$2" ] || fail "$1/owner does not say $2: whose data is it?"
    [ "$(cat "$1/retained" 2>/dev/null)" = "$3" ] || fail "$1/retained does not say $3: is the data in use again?"
}
