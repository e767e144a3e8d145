# What follows is this jail's network, and converges: it runs when the jail starts, and again when something changes.
PATH=/sbin:/bin:/usr/sbin:/usr/bin
export PATH

# plugged INTERFACE MAC [ADDRESS/LENGTH...]
plugged() {
    ifconfig "$1" >/dev/null 2>&1 || return 0
    device=$1
    shift
    ifconfig "$device" ether "$1"
    shift
    # no_dad, before there is an address: they are unique by construction, and a service that binds at once must not find one tentative
    ifconfig "$device" inet6 no_dad -ifdisabled auto_linklocal -accept_rtadv
    ifconfig "$device" up
    settle "$device" "$@"
}

# default GATEWAY INTERFACE
default() {
    case $1 in
        fe80:*) family=-inet6 way=$1%$2 ;;
        *:*) family=-inet6 way=$1 ;;
        *) family=-inet way=$1 ;;
    esac
    case $(route -n get "$family" default 2>/dev/null) in *"gateway: $way
"*) return 0 ;; esac
    route -q delete "$family" default >/dev/null 2>&1 || :
    # a gateway outside the jail's own network has to be told where it is
    case $way in *%*) ;; *) route -q add "$family" -host "$way" -interface "$2" >/dev/null 2>&1 || : ;; esac
    route -q add "$family" default "$way"
}

ifconfig lo0 inet 127.0.0.1/8 up
ifconfig lo0 inet6 ::1/128 alias 2>/dev/null || :
