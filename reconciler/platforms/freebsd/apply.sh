# What the steps of an apply call on FreeBSD, beside those of every platform. The probe's functions are here too.

WORK=/var/run/reconciler

decode() { b64decode -r; }

written() { :; }

# detached COMMAND...: of no session that could end
detached() { daemon -f "$@" 9>&-; }

# lock: lockf(1) locks for a command and, before 14.1, not for a descriptor: so a command that ends when the last of us
# closes descriptor 9 holds it for us. 2: there is no room for that.
lock() {
    turn=$WORK/turn.$$
    rm -f "$turn" "$turn.mine"
    mkfifo "$turn" || return 2
    lockf -ks -t 60 "$WORK/lock" sh -c ': >"$1.mine"; exec cat >/dev/null' sh "$turn" <"$turn" &
    holder=$!
    exec 9>"$turn"
    while [ ! -e "$turn.mine" ]; do
        kill -0 "$holder" 2>/dev/null || { rm -f "$turn"; return 1; }
        sleep 0.1
    done
    rm -f "$turn" "$turn.mine"
}

# host FUNCTION WORDS..., or host run FILE: with the functions that lie on the host
host() {
    (
        set -e
        . "$ETC/network/functions.sh"
        . "$ETC/functions.sh"
        if [ "$1" = run ]; then . "$2"; else "$@"; fi
    )
}

set_sysctl() { sysctl -q "$1=$2"; }

# load_rules CANDIDATE FILE [ANCHOR]: rules that pfctl refuses never take the place of those that load. States outlive
# their rules: what a label stood for that is gone is cut, of rules in the other place as well.
load_rules() {
    host modules pf
    pfctl -q ${3:+-a "$3"} -n -f "$1"
    labels "$ETC/pf.conf" "$ETC/pf.anchor" >"$WORK/labels.old"
    labels "$1" >"$WORK/labels.new"
    mv -f "$1" "$2"
    host firewall "$2" "$3"
    comm -23 "$WORK/labels.old" "$WORK/labels.new" | while read -r label; do
        pfctl -q -k label -k "$label"
    done
    rm -f "$WORK/labels.old" "$WORK/labels.new"
}

# load_again FILE [ANCHOR]: the rules that were there, or none if there were none
load_again() {
    if [ -e "$1" ]; then host firewall "$1" "$2"; elif [ -n "$2" ]; then no_anchor "$2"; else no_rules; fi
}

# labels FILE...
labels() { sed -n 's/.*label "\([^"]*\)".*/\1/p' "$@" 2>/dev/null | sort -u; }

# no_rules: pf itself stays as it is: others may have rules in anchors. Rules that name ours are the administrator's,
# and have taken the place of ours.
no_rules() {
    rm -f "$STATE/firewall.stamp"
    kldstat -q -m pf || return 0
    ! pfctl -s rules 2>/dev/null | grep -qxF 'anchor "reconciler" all' || return 0
    pfctl -q -F rules
    pfctl -q -F nat
    for table in $(pfctl -s Tables 2>/dev/null | grep '^t_'); do pfctl -q -t "$table" -T kill; done
    pfctl -q -d 2>/dev/null || :
}

# no_anchor NAME: its rules, translations and tables (pfctl(8), -F all with -a), and nothing of who names it
no_anchor() {
    rm -f "$STATE/anchor.stamp"
    kldstat -q -m pf || return 0
    pfctl -q -a "$1" -F all
}

no_devices() { devfs rule -s "$1" delset 2>/dev/null || :; }

# accounts DIRECTORY SEAL SHA: makes the tables of the accounts; the seal is the last thing
accounts() {
    rm -f "$2"
    cp "$1/master.passwd" "$1/master.passwd.new~"
    pwd_mkdb -p -d "$1" "$1/master.passwd.new~"
    chmod 644 "$1/passwd" "$1/pwd.db"
    chmod 600 "$1/spwd.db" "$1/master.passwd"
    printf '%s\n' "$3" >"$2"
}

# unpack ARCHIVE DIRECTORY: the archive was made safe before it was sent. The seal is the last thing, so that half
# a tree is a changed tree. A tree in use is mended in place: its mounts go on showing it.
unpack() {
    mkdir -p "${2%/*}"
    rm -f "$2.seal"
    if [ -d "$2" ]; then
        find "$2" -mindepth 1 -delete
        tar -x -p -f "$1" -C "$2" --no-same-owner
    else
        rm -rf "$2.new"
        mkdir "$2.new"
        chmod 755 "$2.new"
        tar -x -p -f "$1" -C "$2.new" --no-same-owner
        mv "$2.new" "$2"
    fi
    looks "$2" >"$2.seal"
}

# remove_tree DIRECTORY: only of what no tenant can write to, and never across a mount
remove_tree() {
    rm -f "$1.seal"
    for place in "$1" "$1.new"; do
        [ ! -d "$place" ] || { find "$place" -xdev -mindepth 1 -delete && rmdir "$place"; }
    done
}

# places DIRECTORY...: made once, then the jail's own; their parents are the host's.
places() {
    for place in "$@"; do
        [ -d "$place" ] || mkdir -m 755 "$place"
    done
}

# unused DIRECTORY JAIL [DATASET]: but for the dataset itself
unused() {
    used=$(mount -p | awk -v named="$1" -v top="$(cd "$1" && pwd -P)" -v own="$3" '
        function of(path, place) { return path == place || index(path, place "/") == 1 }
        own != "" && $1 == own && ($2 == named || $2 == top) { next }
        of($1, named) || of($2, named) || of($1, top) || of($2, top) { print $2; exit }')
    [ -z "$used" ] || fail "$1 is in use: $used is mounted in it, or of it"
}

# wipe DIRECTORY: a jail that was granted chflags may have made its files immutable; links are not followed (chflags(1), -P)
wipe() {
    chflags -R 0 "$1"
    find "$1" -xdev -mindepth 1 -delete
    rmdir "$1"
}

# no_dataset HOME JAIL DAY: it goes with our snapshots. What is below it or others have made of it stays, and so does it.
no_dataset() {
    kldstat -q -m zfs || return 0
    marked "$2" >"$WORK/marked"
    while read -r dataset; do
        [ "$(zfs get -Ho value mountpoint "$dataset")" = "$1" ] || fail "dataset $dataset is marked as that of $2, and its place is not $1"
        [ "$(zfs get -Ho value mounted "$dataset")" = yes ] ||
            fail "dataset $dataset is not mounted, and what is in it not to be seen: zfs mount $dataset"
        approved "$@"
        unused "$1" "$2" "$dataset"
        { snapshots "$dataset" && echo "$dataset"; } >"$WORK/ours"
        theirs=$(zfs list -H -r -t filesystem,volume,snapshot -o name "$dataset" | grep -vxFf "$WORK/ours" | head -n 1)
        [ -z "$theirs" ] || fail "$theirs is not ours, and would go with the data of $2: move or destroy it first"
        # without -r and -f: whatever has come to be below it by now, or uses it, keeps it
        while read -r mine; do zfs destroy "$mine"; done <"$WORK/ours"
    done <"$WORK/marked"
    rm -f "$WORK/marked" "$WORK/ours"
}

# marked JAIL: datasets that say so themselves; those below one only inherit it, and copies from elsewhere have received it
marked() {
    said=$(zfs get -H -s local -t filesystem -o name,value reconciler:owner)
    printf '%s\n' "$said" | awk -F '\t' -v jail="$1" '$2 == jail { print $1 }'
}

# vacant DIRECTORY: what lies where a dataset is mounted would be out of sight (zfsprops(7), overlay)
vacant() {
    [ -z "$(ls -A "$1" 2>/dev/null)" ] || fail "files lie in $1, where a dataset would hide them: move them away"
}

# mount_dataset NAME DIRECTORY
mount_dataset() {
    [ "$(zfs get -Ho value mounted "$1")" = no ] || return 0
    vacant "$2"
    zfs mount "$1"
}

# snapshot DATASET DIGEST, of the change that it is taken before. When the newest is of the same change, that is being
# tried again; an older one is of another time.
snapshot() {
    taken=$(snapshots "$1")
    case $taken in
        "$1@reconciler-$2" | "$1@reconciler-$2
"*) return 0 ;;
        *"
$1@reconciler-$2"*) zfs destroy "$1@reconciler-$2" ;;
    esac
    zfs snapshot -o "reconciler:change=$2" "$1@reconciler-$2"
    # one that somebody holds or has cloned is kept by that
    snapshots "$1" | tail -n +4 | while read -r old; do zfs destroy "$old" || :; done
}

# snapshots DATASET: ours, by name and by mark, the newest first
snapshots() {
    zfs list -H -d 1 -t snapshot -S createtxg -o name,reconciler:change "$1" |
        awk -F '\t' -v ours="$1@reconciler-" '$1 == ours $2 { print $1 }'
}

# machine NAME LIVE up|restart|change|keep SETTING...: `change` is what jail(8) can do to a jail that runs
machine() {
    name=$1 live=$2 verb=$3
    shift 3
    case $verb in
        restart)
            host down "$name" "$live"
            host up "$name" "$live"
            ;;
        up) host up "$name" "$live" ;;
        change) jail -m "name=$name" "$@" ;;
    esac
    host limit "$name"
}
