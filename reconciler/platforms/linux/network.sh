# Makes the network what the files beside this one say, each a line that calls a function below; at boot for all of
# them (up.sh), at an apply for one. Every function converges: it may be called on nothing, on half, on the finished thing.

# the kernel's group of the ports we made (ip-link(8))
GROUP=7547

# alone: systemd may start the boot's run while an apply is at work.
alone() {
    mkdir -p /run/reconciler
    exec 8>/run/reconciler/network.lock
    # one that hangs must not keep a host from going back to what was
    flock -w 60 8 || :
}

# settle DEVICE [ADDRESS/LENGTH...]: exactly these global addresses. $in is "-n NETNS" or empty.
settle() {
    device=$1
    shift
    for have in $(ip $in -o addr show dev "$device" scope global | awk '{print $4}'); do
        case " $* " in *" $have "*) ;; *) ip $in addr del "$have" dev "$device" ;; esac
    done
    for want in "$@"; do
        # nodad: unique by construction, and a service that binds at once must not find the address tentative
        case $want in *:*) nodad=nodad ;; *) nodad= ;; esac
        ip $in addr replace "$want" dev "$device" $nodad
    done
}

# uplink DEVICE: answers neighbour solicitations for jails. A host that got its default route by router advertisement
# would lose it as soon as it forwards: accept_ra 2 keeps it (kernel, ip-sysctl.rst).
uplink() {
    echo 1 >"/proc/sys/net/ipv6/conf/$1/proxy_ndp"
    [ "$(cat "/proc/sys/net/ipv6/conf/$1/accept_ra")" != 1 ] || echo 2 >"/proc/sys/net/ipv6/conf/$1/accept_ra"
}

# vlan NAME PARENT TAG
vlan() {
    to_be_had "$1"
    ip -d link show "$1" 2>/dev/null | grep -q "@$2:" &&
        ip -d link show "$1" | grep -q " vlan protocol 802.1Q id $3 " || {
        bridge=$(readlink "/sys/class/net/$1/master") || :
        no_switch "$1"
        ip link add link "$2" name "$1" group "$GROUP" type vlan id "$3"
        [ -z "$bridge" ] || ip link set "$1" master "${bridge##*/}"
    }
    # the host itself neither speaks nor listens there: the bridge does
    echo 1 >"/proc/sys/net/ipv6/conf/$1/disable_ipv6"
    ip link set "$2" up
    ip link set "$1" up
}

# switch NAME routed|bridged UPLINK|- [ADDRESS/LENGTH...]
switch() {
    in= bridge=$1 mode=$2 port=$3
    shift 3
    [ -e "/sys/class/net/$bridge" ] || ip link add "$bridge" type bridge
    # no snooping: without a querier on the segment it would swallow neighbour solicitations
    ip link set "$bridge" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    # a MAC that was set stays; otherwise it is the lowest of the ports', and jails lose their gateway when that changes
    [ "$(cat "/sys/class/net/$bridge/addr_assign_type")" = 3 ] ||
        ip link set "$bridge" address "$(cat "/sys/class/net/$([ "$port" = - ] && echo "$bridge" || echo "$port")/address")"
    echo 0 >"/proc/sys/net/ipv6/conf/$bridge/accept_ra"
    ip link set "$bridge" up
    settle "$bridge" "$@"
    # a segment that the switch no longer belongs to must not stay joined to it
    for member in $(ls "/sys/class/net/$bridge/brif"); do
        [ "$member" = "$port" ] || [ "$(cat "/sys/class/net/$member/netdev_group")" = "$GROUP" ] ||
            ip link set "$member" nomaster
    done
    # on a bridged segment the gateway's address is the router's
    [ "$mode" = routed ] || for address in fe80::1/64 169.254.1.1/32; do
        ip addr del "$address" dev "$bridge" 2>/dev/null || :
    done
    if [ "$mode" = routed ]; then
        ip addr replace fe80::1/64 dev "$bridge" nodad
        ip addr replace 169.254.1.1/32 dev "$bridge" scope link
    fi
    [ "$port" = - ] || ip link set "$port" master "$bridge" up
}

# no_switch NAME
no_switch() {
    [ ! -e "/sys/class/net/$1" ] || ip link del "$1"
}

# room NAME: a network namespace of the host's own, so that root in the jail has no power over it.
room() {
    ip netns list | grep -q "^$1\( \|\$\)" || { rm -f "/run/netns/$1"; ip netns add "$1"; }
    ip -n "$1" link set lo up
    # a port below 1024 belongs to whoever runs in the jail; ping without raw sockets; and no short cuts from jail to
    # jail, as a router suggests them: ports are isolated
    ip netns exec "$1" sh -c 'cd /proc/sys/net && echo 0 >ipv4/ip_unprivileged_port_start &&
        echo "0 2147483647" >ipv4/ping_group_range && echo 0 >ipv6/conf/all/accept_ra && echo 0 >ipv6/conf/default/accept_ra &&
        for way in all default; do echo 0 >ipv6/conf/$way/accept_redirects && echo 0 >ipv4/conf/$way/accept_redirects; done'
}

# to_be_had NIC: customers choose the name: only what we made makes room.
to_be_had() {
    [ ! -e "/sys/class/net/$1" ] || [ "$(cat "/sys/class/net/$1/netdev_group")" = "$GROUP" ] ||
        { echo "the host has an interface $1 already"; return 1; }
}

# port JAIL NIC SWITCH MAC routed|bridged UPLINK|- "ADDRESSES" "GATEWAYS" "ANNOUNCED"
port() {
    plug "$1" eth0 "$2" "$3" "$4" "$7"
    mode=$5 announce=$6 gateways=$8 announced=$9
    # routes that are right stay, without a moment in which they are not there
    own="^default via ($(echo "$gateways" | tr ' ' '|')) dev eth0 (metric 1024 )?onlink( pref medium)? *$"
    for family in -6 -4; do
        for proto in boot static; do
            ! ip -n "$jail" $family route show proto $proto | grep -qvE "$own" ||
                ip -n "$jail" $family route flush proto $proto
        done
    done
    for gateway in $gateways; do
        case $gateway in *:*) family=-6 ;; *) family=-4 ;; esac
        ip -n "$jail" $family route replace default via "$gateway" dev eth0 onlink
    done
    [ "$mode" = bridged ] || reachable
}

# plug JAIL INNER NIC SWITCH MAC "ADDRESSES": an interface of a jail, called INNER there
plug() {
    jail=$1 inner=$2 nic=$3 bridge=$4 mac=$5 addresses=$6
    room "$jail"
    if [ ! -e "/sys/class/net/$nic" ] || ! ip -n "$jail" link show "$inner" >/dev/null 2>&1; then
        to_be_had "$nic"
        no_switch "$nic"
        ip -n "$jail" link del "$inner" 2>/dev/null || :
        ip link add "$nic" group "$GROUP" type veth peer name "$inner" netns "$jail" address "$mac"
    fi
    # the host itself neither speaks nor listens on a port: the bridge does
    echo 1 >"/proc/sys/net/ipv6/conf/$nic/disable_ipv6"
    ip link set "$nic" master "$bridge" arp off up
    # the bridge knows the one MAC behind a port, and believes no frame about it; nobody sees what is for others
    bridge link set dev "$nic" isolated on learning off flood off
    for have in $(bridge fdb show brport "$nic" | awk '/ static$/ && !/ vlan / {print $1}'); do
        [ "$have" = "$mac" ] || bridge fdb del "$have" dev "$nic" master
    done
    bridge fdb replace "$mac" dev "$nic" master static
    ip -n "$jail" link set "$inner" address "$mac" up
    in="-n $jail"
    settle "$inner" $addresses
}

# reachable: the host's side of a routed port.
reachable() {
    for address in $addresses; do
        ip route replace "$address" dev "$bridge"
    done
    [ "$announce" = - ] || for address in $announced; do ip neigh replace proxy "$address" dev "$announce"; done
}

# leave "ADDRESSES" SWITCH UPLINK|-: what the host knows of addresses that a port no longer has.
leave() {
    for address in $1; do
        ip route del "$address" dev "$2" 2>/dev/null || :
        [ "$3" = - ] || ip neigh del proxy "${address%/*}" dev "$3" 2>/dev/null || :
    done
}

# no_port JAIL NIC
no_port() {
    no_switch "$2"
    ! ip netns list | grep -q "^$1\( \|\$\)" || ip netns del "$1"
}

# cable JAIL NIC MAC "ADDRESSES" JAIL NIC MAC "ADDRESSES"
cable() {
    room "$1"
    room "$5"
    if ! ip -n "$1" link show "$2" >/dev/null 2>&1 || ! ip -n "$5" link show "$6" >/dev/null 2>&1; then
        no_cable "$1" "$2"
        no_cable "$5" "$6"
        ip -n "$1" link add "$2" address "$3" type veth peer name "$6" netns "$5" address "$7"
    fi
    ip -n "$1" link set "$2" address "$3" up
    ip -n "$5" link set "$6" address "$7" up
    in="-n $1"
    settle "$2" $4
    in="-n $5"
    settle "$6" $8
}

# no_cable JAIL NIC
no_cable() {
    ip -n "$1" link del "$2" 2>/dev/null || :
}
