# Prints what is on this host; changes nothing. Fields between tabs:
#   need TEXT                    what this host lacks
#   hold DATE TEXT               the administrator's hold file
#   token SHA / own ENTRY        the inventory
#   armed NAME                   an apply that nobody has confirmed, refused DIGEST    what has cut the host off
#   file PATH TYPE MODE OWNER LINK, bad PATH SHA BASE64 (not as wanted), salted PATH SHA
#   net links|routes LINE, room JAIL links|routes LINE        what ifconfig(8) and netstat(1) say
#   jail NAME=VALUE.., process JAIL COMMAND, mount SOURCE TARGET TYPE OPTIONS, limit RULE, accounts PATH SHA
#   program TUNNEL VERDICT       whether its copy is what the host has
#   dataset PROPERTY..           as zfs(8) lists them
#   tree DIGEST VERDICT, sysctl KEY VALUE, module NAME, devices RULE, fact NAME VALUE
#   dump SHA, stamp FILE-SHA DUMP-SHA; anchor-dump and anchor-stamp: the same of our anchor in the administrator's rules
#   names RULE                   of theirs, that names it; passes RULE: one before it that would let packets pass it by

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
ETC=/etc/reconciler
STATE=/var/lib/reconciler

token() {
    [ -e "$STATE/inventory" ] && sha256 -q "$STATE/inventory" || echo none
}

# how a tree looks; its seal is what it looked like when it had been unpacked
looks() {
    (cd "$1" && find . -exec stat -f '%N %HT %Mp%Lp %u:%g %z %Fm %Y' {} + | sort | sha256 -q)
}

# dump [ANCHOR]: as in functions.sh, which may not be on this host yet
dump() {
    local table
    {
        pfctl ${1:+-a "$1"} -s rules && pfctl ${1:+-a "$1"} -s nat &&
            for table in $(pfctl ${1:+-a "$1"} -s rules | tr ' ' '\n' | sed -n 's/^<\(t_.*\)>$/\1/p' | sort -u); do
                pfctl ${1:+-a "$1"} -t "$table" -T show
            done
    } 2>/dev/null
}

owned() {
    [ "$(uname)" = FreeBSD ] || printf 'need\tFreeBSD\n'
    [ "$(sysctl -n kern.features.vimage 2>/dev/null)" = 1 ] || printf 'need\ta kernel with VIMAGE\n'
    [ ! -e "$ETC/hold" ] ||
        printf 'hold\t%s\t%s\n' "$(stat -f %Sm -t %F "$ETC/hold")" "$(head -c 300 "$ETC/hold" | tr '\n\t' '  ')"
    printf 'token\t%s\n' "$(token)"
    for left in "$STATE"/transactions/*.armed "$STATE"/transactions/*.reverting; do
        [ ! -d "$left" ] || printf 'armed\t%s\n' "${left##*/}"
    done
    [ ! -e "$STATE/refused" ] || while read -r digest; do printf 'refused\t%s\n' "$digest"; done <"$STATE/refused"
    sed '/^#/d; s/^/own	/' "$STATE/inventory" 2>/dev/null
}

# standard input: paths
files() {
    tr '\n' '\0' | xargs -0 -r stat -f 'file%t%N%t%HT%t%Mp%Lp%t%u:%g%t%Y' 2>/dev/null
}

# standard input: "SHA  PATH"; only those that differ are printed, with what is in them. A pipe would never end.
# No file of its own: on a full disk all would look as wanted.
differing() {
    listed=$(
        while read -r sha path; do
            [ ! -f "$path" ] || printf '%s %s\n' "$sha" "$path"
        done
    )
    {
        printf '%s\n--\n' "$listed"
        printf '%s\n' "$listed" | cut -d ' ' -f 2- | tr '\n' '\0' | xargs -0 -r sha256 -r 2>/dev/null
    } | awk '$0 == "--" { asked = 1; next } !asked { wanted[$0]; next } !($0 in wanted)' |
        while read -r sha path; do
            printf 'bad\t%s\t%s\t%s\n' "$path" "$sha" "$(head -c 65536 "$path" | b64encode -r - | tr -d '\n')"
        done
}

# salted PATH SALT
salted() {
    [ ! -f "$1" ] || printf 'salted\t%s\t%s\n' "$1" "$({ printf %s "$2"; cat "$1"; } | sha256 -q)"
}

net() {
    ifconfig -a | sed 's/^/net	links	/'
    for family in inet6 inet; do netstat -rnW -f "$family"; done | sed 's/^/net	routes	/'
}

# standard input: names of jails
rooms() {
    while read -r room; do
        jexec "$room" /sbin/ifconfig -a 2>/dev/null | sed "s/^/room	$room	links	/"
        for family in inet6 inet; do
            jexec "$room" /usr/bin/netstat -rnW -f "$family" 2>/dev/null
        done | sed "s/^/room	$room	routes	/"
    done
}

jails() {
    jls -d -n all 2>/dev/null | sed 's/^/jail	/'
    jls jid name 2>/dev/null | while read -r jid name; do
        ps -ww -J "$jid" -o command= | sed "s/^/process	$name	/"
    done
    mount -p | awk '{ print "mount\t" $1 "\t" $2 "\t" $3 "\t" $4 }'
    rctl 2>/dev/null | sed -n 's/^jail:/limit	jail:/p'
    printf 'fact\tracct\t%s\n' "$(sysctl -n kern.racct.enable 2>/dev/null)"
}

# standard input: "TUNNEL COPY"
programs() {
    while read -r tunnel copy; do
        [ ! -e "$copy" ] || if cmp -s /usr/local/bin/spiped "$copy"; then
            printf "program\t%s\tthe host's\n" "$tunnel"
        else
            printf 'program\t%s\tanother\n' "$tunnel"
        fi
    done
}

# datasets PROPERTIES, standard input: names, the pool's first: of what zfs says of those that are not there, the first
# is about that. It would load its own module.
datasets() {
    said='the module zfs is not loaded'
    if kldstat -q -m zfs; then
        { said=$({ xargs zfs list -Hp -t filesystem -o "$1" | sed 's/^/dataset	/' >&4; } 2>&1); } 4>&1
    fi
    [ -z "$said" ] || printf '%s\n' "$said" | sed 's/^/fact	zfs	/; q'
}

# standard input: files of one line
accounts_of() {
    while read -r seal; do
        [ ! -f "$seal" ] || printf 'accounts\t%s\t%s\n' "$seal" "$(head -n 1 "$seal")"
    done
}

# standard input: "DIGEST DIRECTORY"
trees() {
    while read -r digest directory; do
        [ -d "$directory" ] || continue
        read -r seal 2>/dev/null <"$directory.seal" || seal=none
        [ "$(looks "$directory")" = "$seal" ] && verdict='as sealed' || verdict=changed
        printf 'tree\t%s\t%s\n' "$digest" "$verdict"
    done
}

# standard input: keys
sysctls() {
    xargs -r sysctl -e 2>/dev/null | sed 's/=/	/; s/^/sysctl	/'
}

# standard input: modules
loaded() {
    while read -r module; do
        ! kldstat -q -m "$module" || printf 'module\t%s\n' "$module"
    done
}

# devices NUMBER
devices_of() {
    devfs rule -s "$1" show 2>/dev/null | sed 's/^[0-9]* /devices	/'
}

rules() {
    kldstat -q -m pf || return 0
    [ -z "$(pfctl -s rules 2>/dev/null)" ] || printf 'dump\t%s\n' "$(dump | sha256 -q)"
    pfctl -s info 2>/dev/null | sed -n 's/^Status: \([A-Za-z]*\).*/fact	pf	\1/p'
    [ ! -e "$STATE/firewall.stamp" ] || printf 'stamp\t%s\n' "$(cat "$STATE/firewall.stamp")"
}

# anchor NAME: our rules in it, and what the administrator's make of it
anchor() {
    kldstat -q -m pf || return 0
    [ -z "$(pfctl -a "$1" -s rules 2>/dev/null)" ] || printf 'anchor-dump\t%s\n' "$(dump "$1" | sha256 -q)"
    [ ! -e "$STATE/anchor.stamp" ] || printf 'anchor-stamp\t%s\n' "$(cat "$STATE/anchor.stamp")"
    { pfctl -s nat; pfctl -s rules; } 2>/dev/null | awk -v name="\"$1\"" '
        $1 ~ /anchor$/ && $2 == name { print "names\t" $0; if ($1 == "anchor") exit }
        $1 == "pass" && / quick / && !/ on lo0 / { held = held "passes\t" $0 "\n" }
        END { printf "%s", held }'
}
