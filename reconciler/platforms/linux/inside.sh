# inside UNIT USER SECONDS WORDS...: runs the words in a jail. They are a customer's, so they are held like the jail
# itself: no power, no keys, few processes, little memory, none of our descriptors; and in a unit of their own, which
# is more than their root can end, stop or leave. A process of ours by the same number as a jail's that has just ended
# is in no user namespace of a jail, and nsenter gives up.
inside() {
    supervisor=$(systemctl show -P MainPID "$1")
    children=
    # without a newline at its end
    read -r children 2>/dev/null <"/proc/$supervisor/task/$supervisor/children" || :
    [ -n "$children" ] || return 125
    unit=$1 user=$2 seconds=$3 leader=${children%% *}
    shift 3
    timeout -k 1 $((seconds + 6)) systemd-run --quiet --wait --collect --service-type=exec \
        --description="A check in $unit" -p RuntimeMaxSec=$((seconds + 3)) -p TimeoutStopSec=1 \
        -p StandardInput=null -p StandardOutput=null -p StandardError=null -p KeyringMode=private \
        -p TasksMax=64 -p MemoryMax=256M -p MemorySwapMax=0 -p CPUQuota=50% \
        -p SystemCallFilter=@system-service -p SystemCallErrorNumber=EPERM \
        /usr/bin/nsenter "--target=$leader" --user --mount --uts --ipc --net --pid -- \
        /usr/bin/setpriv "--reuid=$user" "--regid=$user" --clear-groups --no-new-privs --inh-caps=-all \
        --bounding-set=-all -- /usr/bin/timeout -k 1 "$seconds" "$@"
}
