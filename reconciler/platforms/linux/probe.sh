# Prints what is on this host; changes nothing. Fields between tabs:
#   need TEXT                    what this host lacks
#   hold DATE TEXT               the administrator's hold file
#   token SHA / own ENTRY        the inventory
#   armed NAME                   an apply that nobody has confirmed, refused DIGEST    what has cut the host off
#   file PATH TYPE MODE OWNER LINK, bad PATH SHA BASE64 (not as wanted), salted PATH SHA
#   net TABLE JSON, room JAIL TABLE JSON          what ip(8) says
#   unit NAME PROPERTY=VALUE..., runs PID VALUE, lost PID (a mount of a leader), inode PATH NUMBER
#   sharing DIRECTORY            copies in it share what they hold
#   leader PID PID (a jail's first process, of its supervisor), open PID COUNT (the hard limit), bounds PID CAPABILITIES
#   tree DIGEST VERDICT, sysctl KEY VALUE, dump SHA, stamp FILE-SHA DUMP-SHA

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
ETC=/etc/reconciler
STATE=/var/lib/reconciler

token() {
    [ -e "$STATE/inventory" ] && sha256sum <"$STATE/inventory" | cut -c 1-64 || echo none
}

# how a tree looks; its seal is what it looked like when it had been unpacked
looks() {
    (cd "$1" && find . -printf '%P %y %m %U:%G %s %T@ %l\n' | sort | sha256sum | cut -c 1-64)
}

dump() {
    inet=$(nft -st list table inet reconciler 2>/dev/null) && printf '%s\n' "$inet" || return
    nft -st list table bridge reconciler 2>/dev/null
    # -t leaves out what is in sets with a name: visitors fill some, but lists are as they were written
    for list in $(printf '%s\n' "$inet" | sed -n 's/^\tset \(list_[0-9a-f]*\) {$/\1/p'); do
        nft list set inet reconciler "$list" 2>/dev/null
    done
}

owned() {
    for command in ip bridge nft systemd-nspawn nsenter setpriv flock base64 awk; do
        command -v "$command" >/dev/null || printf 'need\tthe command %s\n' "$command"
    done
    [ ! -e "$ETC/hold" ] ||
        printf 'hold\t%s\t%s\n' "$(date -u -r "$ETC/hold" +%F)" "$(head -c 300 "$ETC/hold" | tr '\n\t' '  ')"
    printf 'token\t%s\n' "$(token)"
    for left in "$STATE"/transactions/*.armed "$STATE"/transactions/*.reverting; do
        [ ! -d "$left" ] || printf 'armed\t%s\n' "${left##*/}"
    done
    [ ! -e "$STATE/refused" ] || while read -r digest; do printf 'refused\t%s\n' "$digest"; done <"$STATE/refused"
    sed '/^#/d; s/^/own\t/' "$STATE/inventory" 2>/dev/null
}

# standard input: paths
files() {
    xargs -d '\n' -r sh -c 'find "$@" -maxdepth 0 -printf "file\t%p\t%y\t%m\t%U:%G\t%l\n" 2>/dev/null' sh
}

# standard input: "SHA  PATH"; only those that differ are printed, with what is in them. A pipe would never end.
differing() {
    while read -r sha path; do
        [ ! -f "$path" ] || printf '%s  %s\n' "$sha" "$path"
    done | sha256sum -c --quiet 2>/dev/null | sed -n 's/: FAILED$//p' | while read -r path; do
        printf 'bad\t%s\t%s\t%s\n' "$path" "$(sha256sum <"$path" | cut -c 1-64)" "$(head -c 65536 "$path" | base64 -w 0)"
    done
}

# salted PATH SALT
salted() {
    [ ! -f "$1" ] || printf 'salted\t%s\t%s\n' "$1" "$({ printf %s "$2"; cat "$1"; } | sha256sum | cut -c 1-64)"
}

net() {
    printf 'net\tlinks\t%s\n' "$(ip -j -d link show)"
    printf 'net\taddresses\t%s\n' "$(ip -j addr show)"
    printf 'net\troutes6\t%s\n' "$(ip -j -6 route show)"
    printf 'net\troutes4\t%s\n' "$(ip -j -4 route show)"
    printf 'net\tneighbours\t%s\n' "$(ip -j neigh show proxy)"
}

# standard input: names of network namespaces
rooms() {
    while read -r room; do
        shown=$(
            ip -n "$room" -j -batch - 2>/dev/null <<'BATCH'
addr show
route show table all
BATCH
        ) || continue
        printf 'room\t%s\taddresses\t%s\n' "$room" "${shown%%
*}"
        printf 'room\t%s\troutes\t%s\n' "$room" "${shown#*
}"
    done
}

# the source of a mount (proc(5), mountinfo)
LOSABLE='/(trees/[^/]+|jails/[^/]+/(root|config|secrets|data/[^/]+))'

# standard input: units; their processes say what they were started as, whatever the files say now
units() {
    shown=$(xargs -r systemctl show -p Id -p LoadState -p ActiveState -p SubState -p Job -p MainPID -p Environment -p DropInPaths \
        -p MemoryMax -p TasksMax -p CPUQuotaPerSecUSec -p NRestarts -p ExecMainStatus --)
    printf '%s\n' "$shown" | awk 'BEGIN { RS = ""; FS = "\n"; OFS = "\t" } { $1 = $1; print "unit\t" $0 }'
    pids=$(printf '%s\n' "$shown" | sed -n 's/^MainPID=//p' | grep -vx 0)
    for pid in $pids; do
        printf '/proc/%s/environ\n' "$pid"
    done | xargs -r grep -zaHo '^RECONCILER_RUNS=.*' 2>/dev/null | tr '\0' '\n' |
        sed -n 's#^/proc/\([0-9]*\)/environ:RECONCILER_RUNS=#runs\t\1\t#p'
    # what a jail has mounted may have been removed under it, and even made again: it does not see the new one
    leaders=
    for pid in $pids; do
        children=
        # without a newline at its end
        read -r children 2>/dev/null <"/proc/$pid/task/$pid/children" || :
        for leader in $children; do
            leaders="$leaders $leader"
            printf 'leader\t%s\t%s\n' "$pid" "$leader"
        done
    done
    printf '/proc/%s/mountinfo\n' $leaders |
        xargs -r grep -lE "^([^ ]+ ){3}[^ ]*$LOSABLE//deleted " 2>/dev/null |
        sed -n 's#^/proc/\([0-9]*\)/mountinfo#lost\t\1\t#p'
    printf '/proc/%s/limits\n' $pids $leaders | xargs -r grep -H '^Max open files' 2>/dev/null |
        sed -n 's#^/proc/\([0-9]*\)/limits:Max open files *[^ ]* *\([^ ]*\) .*#open\t\1\t\2#p'
    printf '/proc/%s/status\n' $leaders | xargs -r grep -H '^CapBnd' 2>/dev/null |
        sed -n 's#^/proc/\([0-9]*\)/status:CapBnd:[^0-9a-f]*#bounds\t\1\t#p'
    {
        printf '/proc/%s/ns/net\n' $pids
        find /run/netns -mindepth 1 -maxdepth 1 2>/dev/null
    } | xargs -r -d '\n' stat -L -c 'inode	%n	%i' 2>/dev/null
}

# standard input: "DIGEST DIRECTORY", all in one folder; looks at all of them at once, a host may have hundreds. In
# memory: on a full disk a tree would look changed, and be unpacked anew under the jails that run on it.
trees() {
    while read -r digest directory; do
        [ ! -d "$directory" ] || there="$there $digest" folder=${directory%/*}
    done
    [ -n "$there" ] || return 0
    listings=$(mktemp -d /run/reconciler.XXXXXX) || { printf 'need\troom in /run\n'; return; }
    (cd "$folder" && find $there -printf '%H %P %y %m %U:%G %s %T@ %l\n') | sort -T /run | awk -v folder="$listings" '
        $1 != last { close(folder "/" last); last = $1 }
        { line = substr($0, length($1) + 2); print line >(folder "/" last) }' ||
        { printf 'need\troom in /run\n'; rm -r "$listings"; return; }
    (cd "$listings" && sha256sum -- *) | while read -r sum digest; do
        read -r seal 2>/dev/null <"$folder/$digest.seal" || seal=none
        [ "$sum" = "$seal" ] && verdict='as sealed' || verdict=changed
        printf 'tree\t%s\t%s\n' "$digest" "$verdict"
    done
    rm -r "$listings"
}

# standard input: keys
sysctls() {
    xargs -r sysctl -e 2>/dev/null | sed 's/\t/ /g; s/ = /\t/; s/^/sysctl\t/'
}

# sharing DIRECTORY: told only where a copy takes no room (ioctl_ficlone(2)); whether xfs can is fixed when it is made
sharing() {
    case $(stat -f -c %T "$1" 2>/dev/null) in
        btrfs) ;;
        xfs) xfs_info "$1" 2>/dev/null | grep -q reflink=1 || return 0 ;;
        *) return 0 ;;
    esac
    printf 'sharing\t%s\n' "$1"
}

rules() {
    dumped=$(dump)
    [ -z "$dumped" ] || printf 'dump\t%s\n' "$(printf '%s\n' "$dumped" | sha256sum | cut -c 1-64)"
    [ ! -e "$STATE/firewall.stamp" ] || printf 'stamp\t%s\n' "$(cat "$STATE/firewall.stamp")"
}
