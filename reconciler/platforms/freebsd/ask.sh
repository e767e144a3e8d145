# inside JAIL SECONDS WORDS...: runs the words in a jail, which its limits count. timeout(1) is outside, where nobody of
# the jail can stop it, and when time is over ends all that came of them (procctl(2), PROC_REAP_KILL).
inside() {
    jls -j "$1" jid >/dev/null 2>&1 || return 125
    jail=$1 seconds=$2
    shift 2
    timeout -k 1 "$seconds" jexec "$jail" "$@" </dev/null >/dev/null 2>&1
}
