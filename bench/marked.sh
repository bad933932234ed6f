#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Stands where the boot hook is called, in an image of the benchmark: waits for what
# both ways wait for in their own manner, and for udev, which is as busy as they are in
# that moment, so that the time is that of the work. Says when the hook, which lies
# beside it as `measured`, begins and ends, and with `bench.trace` on the kernel's
# command line what it executed.

words=$(cat /proc/cmdline)
for word in $words; do
    case $word in
        bench.disks=*) disks=${word#bench.disks=} ;;
    esac
done
for disk in $(echo "$disks" | tr , ' '); do
    until [ -b "/dev/disk/by-uuid/$disk" ] && [ -c /dev/tpmrm0 ]; do sleep 0.25; done
done
udevadm settle

trace=/sys/kernel/tracing
begin() { :; }
end() { :; }
case " $words " in
    *' bench.trace '*)
        begin() {
            mount -t tracefs none "$trace" 2>/dev/null
            echo $$ >"$trace/set_event_pid"
            echo event-fork >"$trace/trace_options"
            echo 1 >"$trace/events/sched/sched_process_fork/enable"
            echo 1 >"$trace/events/sched/sched_process_exec/enable"
        }
        end() {
            echo 0 >"$trace/tracing_on"
            cat "$trace/trace"
            echo BENCH-TRACED
        }
        ;;
esac

begin
echo BENCH-BEGINS
"${0%/*}/measured"
code=$?
echo BENCH-ENDS
end
exit "$code"
