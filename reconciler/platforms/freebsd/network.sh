# Makes the network what the files beside this one say, each a line that calls a function below; at boot for all of
# them (up.sh), at an apply for one. Every function converges: it may be called on nothing, on half, on the finished
# thing. A jail's ends are configured inside it, by its own /etc/network. Sources: ifconfig(8), bridge(4), epair(4), ndp(8).
# `local` is not POSIX's, but sh(1)'s here.

# what we made says so: groups are lost when an interface comes back from a jail, the description is not
MARK=reconciler

there() { ifconfig "$1" >/dev/null 2>&1; }

ours() { ifconfig "$1" 2>/dev/null | grep -q "description: $MARK\$"; }

alive() { jls -j "$1" jid >/dev/null 2>&1; }

# has JAIL NIC
has() { alive "$1" && jexec "$1" /sbin/ifconfig "$2" >/dev/null 2>&1; }

# to_be_had NIC: customers choose names: only what we made makes room.
to_be_had() {
    ! there "$1" || ours "$1" || { echo "the host has an interface $1 already"; return 1; }
}

destroy() { ! there "$1" || ifconfig "$1" destroy; }

# settle INTERFACE [ADDRESS/LENGTH...]: exactly these addresses; link-local ones of the kernel's own stay.
settle() {
    local device have want family
    device=$1
    shift
    for have in $(addresses "$device"); do
        case " $* " in *" $have "*) continue ;; esac
        case $have in
            fe80:*%*) ;;
            *:*) ifconfig "$device" inet6 "${have%/*}" delete ;;
            *) ifconfig "$device" inet "${have%/*}" delete ;;
        esac
    done
    for want in "$@"; do
        case " $(addresses "$device" | tr '\n' ' ') " in *" $want "*) continue ;; esac
        # without `alias` the first IPv4 address would be replaced
        case $want in *:*) family=inet6 ;; *) family=inet ;; esac
        ifconfig "$device" "$family" "$want" alias
    done
}

# addresses INTERFACE: as ADDRESS/LENGTH
addresses() {
    ifconfig "$1" | awk '
        $1 == "inet6" { print $2 "/" $4 }
        $1 == "inet" {
            bits = 0
            for (i = 3; i <= 10; i++) bits += index("8ce", substr($4, i, 1)) + 4 * (substr($4, i, 1) == "f")
            print $2 "/" bits
        }'
}

# route_to ADDRESS INTERFACE MAC: the host's way to one address of a jail
route_to() {
    local family
    case $1 in *:*) family=-inet6 ;; *) family=-inet ;; esac
    case $(route -n get "$family" "$1" 2>/dev/null) in
        *"destination: $1
"*"interface: $2
"*) ;;
        *)
            route -q delete "$family" -host "$1" >/dev/null 2>&1 || :
            route -q add "$family" -host "$1" -interface "$2" || return
            ;;
    esac
    # what lies in no prefix of the interface's is no neighbour to the kernel unless it knows it: it would neither ask
    # for it nor hear it ask (nd6.c, ndp(8))
    [ "$family" = -inet ] || ndp -s "$1" "$3"
}

# nic NAME DEVICE: a card keeps its addresses and routes when it is renamed, and stays in its bridge and below its VLANs
# (if.c, SIOCSIFNAME, changes the name alone; if_bridge.c and if_vlan.c look away while IFF_RENAMING is set). pf finds
# its rules by the name: those for the new one, which are loaded after this, hold from then on (pf_if.c, pfi_attach_ifnet_event).
# At boot rc.d/netif has configured DEVICE by then (network.subr, ifn_start): our hook requires NETWORKING. To dhclient
# its interface is gone (dhclient.c, IFAN_DEPARTURE).
nic() {
    if there "$1"; then
        ! there "$2" || { echo "the host has both $1 and $2"; return 1; }
    elif there "$2"; then
        rename "$2" "$1"
    else
        echo "the host has neither $1 nor $2; a name that a card was given before stays until the next boot"
        return 1
    fi
}

# vlan NAME PARENT TAG
vlan() {
    to_be_had "$1" || return
    there "$1" || rename "$(ifconfig vlan create description "$MARK")" "$1"
    case $(ifconfig "$1") in
        *"vlan: $3 "*"parent interface: $2"*) ;;
        *)
            # one that has a parent takes no other (ifconfig(8), vlandev)
            ifconfig "$1" -vlandev 2>/dev/null || :
            ifconfig "$1" vlan "$3" vlandev "$2"
            ;;
    esac
    # the host itself neither speaks nor listens there: the bridge does
    ifconfig "$1" inet6 ifdisabled -auto_linklocal
    ifconfig "$2" up
    ifconfig "$1" up
}

# switch NAME routed|bridged UPLINK|- MAC [ADDRESS/LENGTH...]
switch() {
    local bridge mode port mac member
    bridge=$1 mode=$2 port=$3 mac=$4
    shift 4
    to_be_had "$bridge" || return
    # in one call, so that what a kill leaves behind still says whose it is
    there "$bridge" || rename "$(ifconfig bridge create description "$MARK")" "$bridge"
    ifconfig "$bridge" ether "$mac"
    ifconfig "$bridge" inet6 no_dad -ifdisabled auto_linklocal -accept_rtadv
    ifconfig "$bridge" up
    # on a bridged segment the gateway's address is the router's
    [ "$mode" != routed ] || set -- "$@" 169.254.1.1/32
    settle "$bridge" "$@"
    gateway "$bridge" "$mode"
    # the first member sets the MTU of the bridge; a segment that the switch no longer belongs to must not stay joined
    for member in $(ifconfig "$bridge" | awk '$1 == "member:" { print $2 }'); do
        [ "$member" = "$port" ] || ours "$member" || ifconfig "$bridge" deletem "$member"
    done
    [ "$port" = - ] || { join "$bridge" "$port" && ifconfig "$port" up; }
}

# gateway BRIDGE routed|bridged: fe80::1 is the jails' way out of a routed switch, and nowhere else
gateway() {
    if [ "$2" = routed ]; then
        addresses "$1" | grep -q '^fe80::1%' || ifconfig "$1" inet6 "fe80::1%$1" prefixlen 64 alias
    else
        ! addresses "$1" | grep -q '^fe80::1%' || ifconfig "$1" inet6 "fe80::1%$1" delete
    fi
}

# rename INTERFACE NAME
rename() { ifconfig "$1" name "$2" >/dev/null; }

# join BRIDGE MEMBER
join() {
    local other
    for other in $(ifconfig -g bridge); do
        [ "$other" != "$1" ] || continue
        ! member "$other" "$2" || ifconfig "$other" deletem "$2"
    done
    member "$1" "$2" || ifconfig "$1" addm "$2"
}

member() { ifconfig "$1" | grep -q "member: $2 "; }

no_switch() {
    ! ours "$1" || destroy "$1"
}

# pair A MAC B MAC [JAIL...]: two ends of one cable; the second may already be in a jail, and the first as well
pair() {
    local a a_mac b b_mac jail half
    a=$1 a_mac=$2 b=$3 b_mac=$4
    shift 4
    if ! somewhere "$a" "$@" || ! somewhere "$b" "$@"; then
        to_be_had "$a" && to_be_had "$b" || return
        for jail in "$@"; do back "$jail" "$a" "$b"; done
        destroy "$a"
        destroy "$b"
        half=$(ifconfig epair create description "$MARK")
        half=${half%a}
        ifconfig "${half}b" description "$MARK"
        rename "${half}a" "$a"
        rename "${half}b" "$b"
    fi
    ! there "$a" || ifconfig "$a" ether "$a_mac"
    ! there "$b" || ifconfig "$b" ether "$b_mac"
}

# somewhere NIC [JAIL...]: on the host, or in one of these jails
somewhere() {
    local nic jail
    nic=$1
    shift
    ! there "$nic" || return 0
    for jail in "$@"; do ! has "$jail" "$nic" || return 0; done
    return 1
}

# back JAIL NIC...: a jail's interfaces return to the host; a dying jail would keep them for minutes
back() {
    local home nic
    home=$1
    shift
    for nic in "$@"; do ! has "$home" "$nic" || ifconfig "$nic" -vnet "$home"; done
}

# port JAIL NIC MAC INSIDE MAC SWITCH routed|bridged "ADDRESSES"
port() {
    local bridge mode wanted address
    bridge=$6 mode=$7 wanted=$8
    plug "$1" "$2" "$3" "$4" "$5" "$6" || return
    [ "$mode" = bridged ] || for address in $wanted; do route_to "${address%/*}" "$bridge" "$5"; done
}

# plug JAIL NIC MAC INSIDE MAC SWITCH: the jail's end is inside it as soon as it runs
plug() {
    local jail nic inner bridge
    jail=$1 nic=$2 inner=$4 bridge=$6
    pair "$nic" "$3" "$inner" "$5" "$jail" || return
    # the host itself neither speaks nor listens on a port: the bridge does
    ifconfig "$nic" inet6 ifdisabled -auto_linklocal
    ifconfig "$nic" up
    join "$bridge" "$nic"
    # jails do not see each other on the switch
    ifconfig "$bridge" private "$nic"
    enter "$jail" "$inner"
}

# enter JAIL NIC...: into a jail that runs; one that does not takes them when it starts
enter() {
    local room nic
    room=$1
    shift
    alive "$room" || return 0
    for nic in "$@"; do ! there "$nic" || ifconfig "$nic" vnet "$room"; done
    jexec "$room" /bin/sh /etc/network
}

# leave "ADDRESSES" NIC: what the host knows of a port that changes or goes
leave() {
    local address family
    for address in $1; do
        case $address in *:*) family=-inet6 ;; *) family=-inet ;; esac
        [ "$family" = -inet ] || ndp -n -d "${address%/*}" >/dev/null 2>&1 || :
        route -q delete "$family" -host "${address%/*}" >/dev/null 2>&1 || :
    done
    [ -z "$2" ] || ! ours "$2" || destroy "$2"
}

# cable JAIL NIC MAC JAIL NIC MAC
cable() {
    local one one_nic one_mac two two_nic two_mac
    one=$1 one_nic=$2 one_mac=$3 two=$4 two_nic=$5 two_mac=$6
    pair "$one_nic" "$one_mac" "$two_nic" "$two_mac" "$one" "$two" || return
    enter "$one" "$one_nic"
    enter "$two" "$two_nic"
}

# no_cable JAIL NIC JAIL NIC: one end takes the other with it
no_cable() {
    local nic
    back "$1" "$2"
    back "$3" "$4"
    for nic in "$2" "$4"; do ! ours "$nic" || destroy "$nic"; done
}
