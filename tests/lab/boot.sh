#!/bin/sh
# Turns a process into a lab host and becomes its PID 1. Runs twice: first in the lab's namespaces, where it
# joins the host's cgroups and network, then in the host's own, where it mounts the disk and starts init.
#
# In: FOLDER of the host (upper/, work/, root/ and the fstab of its mounts), NETNS, HOSTNAME, and INIT...;
# LAB_CGROUPS holds the folders of its cgroups. Knows nothing of addresses or ssh.
set -eu
FOLDER=$1 NETNS=$2 HOSTNAME=$3

if [ -z "${LAB_INSIDE:-}" ]; then
    for cgroup in ${LAB_CGROUPS:-}; do echo 0 >"$cgroup/cgroup.procs"; done
    LAB_INSIDE=1 exec nsenter --net="/run/netns/$NETNS" \
        unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private "$0" "$@"
fi

shift 3
hostname "$HOSTNAME"
cd "$FOLDER"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount --all --fstab fstab --target-prefix "$FOLDER/root"

devices=
for device in null zero full random urandom tty fd stdin stdout stderr fuse net loop-control; do
    [ ! -e "/dev/$device" ] || devices="$devices /dev/$device"
done
cp -a $devices root/dev/
ln -s pts/ptmx root/dev/ptmx
mkdir -p root/run/sshd root/run/lock root/run/netns

cd root
pivot_root . mnt
cd /
umount -l /mnt
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
