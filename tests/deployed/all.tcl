# all.tcl --
#
#	Deploys the system as a user does, with scripts/deploy.sh, and uses it: jobs are submitted and their results shown;
#	a worker is killed at work, and its job ends on the other; the worker comes back; all is stopped. The topology is
#	config/system.top with a port and a folder of its own, so that a system that runs here is left alone.
#
#	    tclsh tests/deployed/all.tcl

package require Tcl 8.6
package require tcltest 2.3
namespace import tcltest::test

set root [file normalize [file join [file dirname [info script]] .. ..]]
set folder [file normalize [file join [pwd] [tcltest::temporaryDirectory] deployed-[pid]]]
set topology [file join $folder config system.top]
set deploy [file join $root scripts deploy.sh]
set torhost [file join $root target release torhost]
set ::env(XDG_RUNTIME_DIR) [file join $folder run]
set ::env(LC_ALL) C.UTF-8
unset -nocomplain ::env(TOR_TOPOLOGY)

# prepare --
#
#	Makes the folder: the topology on a free port, and links to the node scripts.

proc prepare {} {
    global folder topology root port
    file mkdir [file join $folder config] $::env(XDG_RUNTIME_DIR)
    file attributes $::env(XDG_RUNTIME_DIR) -permissions 0700
    foreach name {nodes examples} {
	file link -symbolic [file join $folder $name] [file join $root $name]
    }
    set server [socket -server {} -myaddr 127.0.0.1 0]
    set port [lindex [fconfigure $server -sockname] 2]
    close $server
    set in [open [file join $root config system.top]]
    set text [read $in]
    close $in
    set out [open $topology w]
    puts -nonewline $out [string map [list "port 9000" "port $port"] $text]
    close $out
}

# client --
#
#	Runs nodes/client.tor with a command, under plain tclsh.
#
# Results:
#	What it prints. An exit code other than 0 is an error.

proc client {args} {
    exec [info nameofexecutable] [file join $::root nodes client.tor] localhost $::port {*}$args 2>@1
}

# ask --
#
#	Asks the coordinator over the line protocol.
#
# Results:
#	The answer's value: a Tcl dict.

proc ask {request} {
    set channel [socket localhost $::port]
    fconfigure $channel -buffering line -encoding utf-8 -translation lf
    puts $channel FORMAT:tcl
    puts $channel $request
    while {[gets $channel line] >= 0} {
	if {[string match "[lindex [split $request :] 0]:*" $line]} {
	    close $channel
	    return [string range $line [string first : $line]+1 end]
	}
    }
    error "no answer to $request"
}

# node --
#
#	A column of `torhost ps` for a node.

proc node {name column} {
    # Exit code 1 only says that not every node is ready.
    catch {exec $::torhost ps $::topology} table
    set lines [split $table \n]
    foreach line $lines {
	if {[lindex $line 0] eq $name} {
	    return [lindex $line [lsearch -exact [lindex $lines 0] $column]]
	}
    }
    error "no node $name in:\n$table"
}

# until --
#
#	Waits for a condition, with a limit that only a failure reaches.

proc until {condition} {
    set limit [expr {[clock milliseconds] + 30000}]
    while {![uplevel 1 [list expr $condition]]} {
	if {[clock milliseconds] > $limit} {
	    error "waited 30 s for $condition"
	}
	after 20
    }
}

prepare

test deployed-1.1 {deploy.sh starts every node and says where things are} -body {
    set said [exec $deploy $topology 2>@1]
    list [regexp {3 of 3 nodes are ready} $said] [regexp {logs/worker1\.log} $said] [regexp {client\.tor} $said]\
	[regexp "torhost down" $said]
} -result {1 1 1 1}

test deployed-1.2 {deploy.sh again changes nothing} -body {
    set before [node coordinator PID]
    set said [exec $deploy $topology 2>@1]
    list [regexp {running} $said] [expr {[node coordinator PID] == $before}]
} -result {1 1}

test deployed-2.1 {three jobs get their results} -body {
    list [client submit hello] [client submit checksum:abc] [client submit "gpu job"]
} -match regexp -result {^Processado_hello_por_worker[12] \{crc32=352441c2 bytes=3\} \{Processado_gpu job_por_worker2\}$}

test deployed-2.2 {the status is true} -body {
    set status [ask STATUS]
    list [dict get $status jobs completed] [dict get $status jobs queued] [regexp {completed +3} [client status]]
} -result {3 0 1}

test deployed-2.3 {a script of commands on standard input works as well} -body {
    exec [info nameofexecutable] [file join $root nodes client.tor] localhost $port << "submit checksum:abc\n" 2>@1
} -match glob -result *crc32=352441c2*

test deployed-3.1 {the job of a worker that is killed ends on the other, and the client is told} -body {
    set submitter [socket localhost $port]
    fconfigure $submitter -buffering line -encoding utf-8 -translation lf
    # One for each of them: they take turns.
    foreach n {1 2} {
	puts $submitter SUBMIT_JOB:sleep:2000
    }
    until {[llength [dict get [lindex [dict get [ask WORKERS] workers] 0] running]] == 1}
    foreach worker [dict get [ask WORKERS] workers] {
	set running([dict get $worker id]) [dict get $worker running]
    }
    set killed [node worker1 PID]
    exec kill -9 $killed
    set results {}
    while {[llength $results] < 2 && [gets $submitter line] >= 0} {
	if {[regexp {^JOB_RESULT:([^:]+):completed:slept} $line -> id]} {
	    lappend results $id
	}
    }
    close $submitter
    set job [ask JOB:[lindex [split [lindex $running(worker1) 0] .] 0]]
    list [llength [lsort -unique $results]] [dict get $job worker] [dict get $job attempt]
} -result {2 worker2 2}

test deployed-3.2 {the killed worker comes back} -body {
    until {[node worker1 STATE] eq "ready" && [node worker1 PID] != $killed}
    list [node worker1 RESTARTS] [node worker2 RESTARTS]
} -result {1 0}

test deployed-4.1 {down stops everything} -body {
    exec $torhost down $topology
    list [catch {socket localhost $port}] [catch {exec $torhost ps $topology}] [lindex $::errorCode 2]
} -result {1 1 3}

catch {exec $torhost down $topology}
set failed $tcltest::numTests(Failed)
set passed $tcltest::numTests(Passed)
if {$failed} {
    foreach log [glob -nocomplain [file join $folder logs *.log]] {
	puts "== $log"
	puts [exec tail -n 20 $log]
    }
}
file delete -force $folder
puts "deployed system: $passed passed, $failed failed"
exit [expr {$failed > 0 || $passed == 0}]
