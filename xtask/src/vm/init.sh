#!/bin/busybox sh
# First process of a guest: prepares what a host's init would, runs the commands of /commands and powers off.
# Each line of /commands is a name, a tab and a shell command; `VM-RESULT: <name> <exit code>` goes to the console for each.

/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/root RUST_BACKTRACE=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo "VM-UP: $(uname -r)"

while read -r module; do
	insmod "/modules/$module" || echo "VM-RESULT: module-$module 1"
done </modules/order

tab=$(printf '\t')
while IFS="$tab" read -r name shell; do
	echo "VM-RUN: $name"
	sh -c "$shell" </dev/null
	echo "VM-RESULT: $name $?"
done </commands

echo "VM-DONE"
poweroff -f
