# nodes.tcl --
#
#	Starts and stops real nodes for the tests, and talks to them line by line. Waiting is always for a line or
#	a condition, with a limit that only a failure reaches.

package require tcltest 2.3

# Where another coordinator is held to these tests, its command line is its own.
tcltest::testConstraint classicCoordinator [expr {![info exists ::env(TOR_COORDINATOR)]}]

tcltest::testConstraint classicWorker [expr {![info exists ::env(TOR_WORKERS)]}]

namespace eval Nodes {
    variable root [file normalize [file join [file dirname [info script]] .. ..]]
    variable limit 20000
    variable pids {}
    variable lines;	# channel -> lines received and not yet taken
    array set lines {}
    variable port
    variable tick 0
}

# Nodes::shell --
#
#	The program that runs a kind of node.
#
# Arguments:
#	kind	coordinator, worker or client
#
# Results:
#	Its path.

proc Nodes::shell {kind} {
    set name TOR_SHELL_[string toupper $kind]
    return [expr {[info exists ::env($name)] ? $::env($name) : [info nameofexecutable]}]
}

proc Nodes::read {ch} {
    variable lines
    variable tick
    if {[catch {gets $ch line} length] || ($length < 0 && [eof $ch])} {
	fileevent $ch readable {}
	lappend lines($ch) <closed>
    } elseif {$length >= 0} {
	lappend lines($ch) $line
    }
    incr tick
}

proc Nodes::listen {ch} {
    variable lines
    set lines($ch) {}
    fconfigure $ch -blocking 0 -buffering line -encoding utf-8 -translation {auto lf}
    fileevent $ch readable [list Nodes::read $ch]
    return $ch
}

# Nodes::spawn --
#
#	Starts a node of examples/classic, or of the folder TOR_WORKERS in place of a worker, or TOR_COORDINATOR in place of
#	the coordinator.
#
# Arguments:
#	name	the script
#	args	its arguments
#
# Results:
#	The channel of its output.

proc Nodes::spawn {name args} {
    variable root
    variable pids
    set kind [string trimright $name 12]
    set script [file join $root [expr {$kind eq "client" ? "nodes" : "examples/classic"}] $name.tor]
    if {$kind eq "coordinator" && [info exists ::env(TOR_COORDINATOR)]} {
	set script [file join $root $::env(TOR_COORDINATOR)]
    }
    if {$kind eq "worker" && [info exists ::env(TOR_WORKERS)]} {
	set script [file join $root $::env(TOR_WORKERS) $name.tor]
	# The topology may give it more.
	set args [linsert $args 2 {*}[expr {"--slots" in $args ? {} : {--slots 1}}]]
    }
    set ch [open |[list [shell $kind] $script {*}$args 2>@1] r+]
    lappend pids {*}[pid $ch]
    return [listen $ch]
}

# Nodes::expect --
#
#	Waits for a line, dropping those before it.
#
# Arguments:
#	ch	channel
#	pattern	glob pattern
#
# Results:
#	The line; an error that shows what came instead.

proc Nodes::expect {ch pattern} {
    variable lines
    variable limit
    variable tick
    set seen {}
    set timer [after $limit {set Nodes::tick late}]
    set tick 0
    try {
	while 1 {
	    while {[llength $lines($ch)]} {
		set lines($ch) [lassign $lines($ch) line]
		if {[string match $pattern $line]} {
		    return $line
		}
		lappend seen $line
		if {$line eq "<closed>"} {
		    error "closed before \"$pattern\"; got:\n[join $seen \n]"
		}
	    }
	    if {$tick eq "late"} {
		error "no \"$pattern\" within $limit ms; got:\n[join $seen \n]"
	    }
	    vwait Nodes::tick
	}
    } finally {
	after cancel $timer
    }
}

# Nodes::next --
#
#	Waits for the next line, whatever it is.

proc Nodes::next {ch} {
    return [expect $ch *]
}

proc Nodes::coordinator {args} {
    variable port
    set ch [spawn coordinator 0 {*}$args]
    set port [lindex [expect $ch "*Coordinator listening on port *"] end]
    return $ch
}

proc Nodes::worker {name args} {
    variable port
    set ch [spawn $name localhost $port {*}$args]
    expect $ch "*registered with the coordinator*"
    return $ch
}

proc Nodes::connect {} {
    variable port
    return [listen [socket localhost $port]]
}

# Nodes::raw --
#
#	A worker that the test itself plays.

proc Nodes::raw {id {more ""}} {
    set ch [connect]
    puts $ch "REGISTER:{\"id\":\"$id\",\"type\":\"test\"$more}"
    expect $ch REGISTERED:*
    return $ch
}

proc Nodes::kill {ch {signal KILL}} {
    exec kill -$signal [lindex [pid $ch] 0]
}

# Nodes::client --
#
#	Runs the client to its end.
#
# Arguments:
#	input	what is piped into it
#	args	its arguments behind host and port
#
# Results:
#	{exitCode output}

proc Nodes::client {input args} {
    variable root
    variable port
    set code 0
    if {[catch {
	exec [shell client] [file join $root nodes client.tor] localhost $port {*}$args << $input 2>@1
    } output options]} {
	set code [lindex [dict get $options -errorcode] 2]
	set output [regsub {\n?child process exited abnormally$} $output ""]
    }
    return [list $code $output]
}

# Nodes::cleanup --
#
#	Ends all nodes and connections.

proc Nodes::cleanup {} {
    variable pids
    variable lines
    foreach pid $pids {
	# It may have ended already.
	catch {exec kill -CONT $pid 2>@1}
	catch {exec kill -KILL $pid 2>@1}
    }
    set pids {}
    foreach ch [array names lines] {
	catch {close $ch}
    }
    array unset lines
}
