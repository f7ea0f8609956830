# compare.tcl --
#
#	Reads the logs that tcl-suite.sh wrote (DIR/round1/tclsh/socket.test.log and so on), and compares
#	the outcome of every test under tclsh and under torhost.
#
#	tclsh compare.tcl DIR --differing ROUND     names of the files worth another round
#	tclsh compare.tcl DIR ?--report FILE?       the comparison; exit code 1 if a test was lost

package require Tcl 8.6

namespace eval Compare {
    variable shells {tclsh torhost}
    # A test that a broken-off file never reached.
    variable absent "not run"
}

# Compare::readLog --
#
#	Reads what one test file printed under one shell.
#
# Arguments:
#	path	the log
#
# Results:
#	A dictionary: tests (test name -> sorted list of outcomes, since some names are used more than
#	once), pass, skip, fail (counts), exit (exit code of the process), last (the test running at the end, or "").

proc Compare::readLog {path} {
    set channel [open $path r]
    fconfigure $channel -encoding utf-8
    set result {tests {} pass 0 skip 0 fail 0 exit 0 last {}}
    while {[gets $channel line] >= 0} {
	# A test's own output may stand before the mark on the same line.
	if {[regexp {\+\+\+\+ (\S+) PASSED$} $line - name]} {
	    set outcome pass
	} elseif {[regexp {\+\+\+\+ (\S+) SKIPPED: } $line - name]} {
	    set outcome skip
	} elseif {[regexp {==== (\S+) FAILED$} $line - name]} {
	    # Closes the description of a failure; the opening line holds the test's description too.
	    set outcome fail
	} elseif {[regexp -- {---- (\S+) start$} $line - name]} {
	    dict set result last $name
	    continue
	} elseif {[regexp {^@@@@ exit (\d+)$} $line - code]} {
	    dict set result exit $code
	    continue
	} else {
	    continue
	}
	dict set result last {}
	dict with result {
	    dict lappend tests $name $outcome
	    incr $outcome
	}
    }
    close $channel
    dict for {name outcomes} [dict get $result tests] {
	dict set result tests $name [lsort $outcomes]
    }
    return $result
}

# Compare::readRound --
#
# Results:
#	A dictionary: file name -> shell -> what readLog returns.

proc Compare::readRound {dir round} {
    variable shells
    set result {}
    foreach path [lsort -dictionary [glob -nocomplain -directory $dir/round$round/tclsh *.log]] {
	set file [file rootname [file tail $path]]
	foreach shell $shells {
	    dict set result $file $shell [readLog $dir/round$round/$shell/$file.log]
	}
    }
    return $result
}

# Compare::outcome --
#
#	The outcome of a test under a shell, as a word or two for a person to read.

proc Compare::outcome {run name} {
    variable absent
    if {![dict exists $run tests $name]} {
	return $absent
    }
    return [join [lsort -unique [dict get $run tests $name]] "/"]
}

# Compare::differences --
#
# Results:
#	The tests that one round of one file decides differently under the two shells: a dictionary
#	test name -> {outcome under tclsh, outcome under torhost}.

proc Compare::differences {runs} {
    set reference [dict get $runs tclsh]
    set other [dict get $runs torhost]
    set names [dict keys [dict merge [dict get $reference tests] [dict get $other tests]]]
    set result {}
    foreach name $names {
	set pair [list [outcome $reference $name] [outcome $other $name]]
	if {[lindex $pair 0] ne [lindex $pair 1]} {
	    dict set result $name $pair
	}
    }
    return $result
}

# Compare::sameFile --
#
#	Whether a round of one file shows no difference at all: tests, how many, and the exit code.

proc Compare::sameFile {runs} {
    foreach key {pass skip fail exit} {
	if {[dict get $runs tclsh $key] != [dict get $runs torhost $key]} {
	    return false
	}
    }
    return [expr {[dict size [differences $runs]] == 0}]
}

proc Compare::differing {dir round} {
    dict for {file runs} [readRound $dir $round] {
	if {![sameFile $runs]} {
	    puts $file
	}
    }
}

# Compare::verdicts --
#
#	Judges every test of a file that differed in its first round, over all the rounds.
#
# Arguments:
#	rounds	list of rounds of this file, the first first
#
# Results:
#	A list of {test, outcomes under tclsh in each round, outcomes under torhost, verdict}, where the verdict
#	is one of
#	  lost	   passes under tclsh, and does not pass under torhost, in every round
#	  flaky	   the difference vanishes in some round, or tclsh does not decide it the same way twice
#	  other	   a difference that takes no passing test away

proc Compare::verdicts {rounds} {
    set result {}
    foreach name [dict keys [differences [lindex $rounds 0]]] {
	set before {}
	set after {}
	set vanished false
	foreach runs $rounds {
	    set a [outcome [dict get $runs tclsh] $name]
	    set b [outcome [dict get $runs torhost] $name]
	    lappend before $a
	    lappend after $b
	    if {$a eq $b} {
		set vanished true
	    }
	}
	if {$vanished || [llength [lsort -unique $before]] > 1} {
	    set verdict flaky
	} elseif {[lindex $before 0] eq "pass"} {
	    set verdict lost
	} else {
	    set verdict other
	}
	lappend result [list $name $before $after $verdict]
    }
    return $result
}

# Compare::ending --
#
#	How a file's process ended, where it did not simply exit with 0.

proc Compare::ending {run} {
    set code [dict get $run exit]
    if {$code == 0} {
	return ""
    } elseif {$code == 124 || $code == 137} {
	set text "stopped by the time limit"
    } elseif {$code > 128} {
	set text "killed by signal [expr {$code - 128}]"
    } else {
	set text "exit code $code"
    }
    if {[dict get $run last] ne ""} {
	append text " in [dict get $run last]"
    }
    return $text
}

proc Compare::counts {run} {
    return "[dict get $run pass] / [dict get $run skip] / [dict get $run fail]"
}

# Compare::report --
#
#	Prints the comparison, writes it as Markdown if asked to, and returns the exit code.

proc Compare::report {dir reportFile} {
    set all [readRound $dir 1]
    set rounds {}
    dict for {file runs} $all {
	dict lappend rounds $file $runs
    }
    foreach round {2 3} {
	dict for {file runs} [readRound $dir $round] {
	    dict lappend rounds $file $runs
	}
    }

    set tests {}	;# every differing test: file, name, outcomes, verdict
    set changed {}	;# every file whose totals or ending differ in its last round
    set total {tclsh {pass 0 skip 0 fail 0} torhost {pass 0 skip 0 fail 0}}
    set table {}
    dict for {file list} $rounds {
	foreach verdict [verdicts $list] {
	    lappend tests [list $file {*}$verdict]
	}
	set last [lindex $list end]
	foreach shell {tclsh torhost} {
	    foreach key {pass skip fail} {
		dict set total $shell $key [expr {[dict get $total $shell $key] + [dict get $last $shell $key]}]
	    }
	}
	set notes {}
	set endings [list [ending [dict get $last tclsh]] [ending [dict get $last torhost]]]
	if {[lindex $endings 0] ne [lindex $endings 1]} {
	    foreach shell {tclsh torhost} text $endings {
		if {$text ne ""} {
		    lappend notes "$shell: $text"
		}
	    }
	} elseif {[lindex $endings 0] ne ""} {
	    lappend notes "both: [lindex $endings 0]"
	}
	set before [counts [dict get $last tclsh]]
	set after [counts [dict get $last torhost]]
	if {$before ne $after || [lindex $endings 0] ne [lindex $endings 1]} {
	    lappend changed $file
	}
	if {[llength $list] > 1} {
	    lappend notes "run [llength $list] times"
	}
	lappend table [list $file $before $after [join $notes "; "]]
    }

    set lost [lsearch -all -inline -index 4 -exact $tests lost]
    foreach test $tests {
	lassign $test file name before after verdict
	puts [format {%-6s %s %s: tclsh %s, torhost %s} $verdict $file $name \
		[join $before ", "] [join $after ", "]]
    }
    foreach row $table {
	lassign $row file before after notes
	if {$file in $changed} {
	    puts "totals $file: tclsh $before, torhost $after (pass / skip / fail) $notes"
	}
    }
    set summary [format {%d files; pass / skip / fail: tclsh %s, torhost %s; %d lost, %d flaky, %d other differences} \
	    [llength $table] [counts [dict get $total tclsh]] [counts [dict get $total torhost]] \
	    [llength $lost] [llength [lsearch -all -index 4 -exact $tests flaky]] \
	    [llength [lsearch -all -index 4 -exact $tests other]]]
    puts $summary
    if {[dict get $total tclsh pass] == 0} {
	puts stderr "compare: no test passed under tclsh; the suite did not run: see $dir"
	return 2
    }

    if {$reportFile ne ""} {
	writeReport $reportFile $summary $tests $table
    }
    return [expr {[llength $lost] > 0}]
}

# Compare::writeReport --
#
#	Writes the Markdown page.

proc Compare::writeReport {path summary tests table} {
    set channel [open $path w]
    fconfigure $channel -encoding utf-8
    puts $channel "# Tcl's own test suite under torhost"
    puts $channel ""
    puts $channel "Written by `scripts/tcl-suite.sh --report`, which runs every file of the `tests` directory of Debian's source"
    puts $channel "package of Tcl [info patchlevel] in a process of its own, under `tclsh` and under `torhost`, in the same environment, on one"
    puts $channel "machine. Tcl's own test commands (`testchannel`, `testevent` and so on) are there as a package under both; tests that need"
    puts $channel "another system, another user or a server elsewhere are skipped under both. A file that differs is run up to three times: a"
    puts $channel "test is *flaky* when the difference vanishes in some round or `tclsh` itself does not decide it the same way each time, *lost* when it passes under `tclsh` and does not pass"
    puts $channel "under `torhost` in every round, *other* when it differs and takes no passing test away."
    puts $channel ""
    puts $channel "$summary."
    puts $channel ""
    puts $channel "## Tests that differ"
    puts $channel ""
    if {[llength $tests] == 0} {
	puts $channel "None."
    } else {
	puts $channel "| file | test | tclsh | torhost | verdict |"
	puts $channel "|---|---|---|---|---|"
	foreach test $tests {
	    lassign $test file name before after verdict
	    puts $channel "| $file | $name | [join $before {, }] | [join $after {, }] | $verdict |"
	}
    }
    puts $channel ""
    puts $channel "## Every file"
    puts $channel ""
    puts $channel "Counts are pass / skip / fail, of the last round."
    puts $channel ""
    puts $channel "| file | tclsh | torhost | |"
    puts $channel "|---|---|---|---|"
    foreach row $table {
	puts $channel "| [join $row { | }] |"
    }
    close $channel
}

set usage {usage: tclsh compare.tcl DIR ?--differing ROUND | --report FILE?}
switch -- [llength $argv],[lindex $argv 1] {
    1, { exit [Compare::report [lindex $argv 0] ""] }
    3,--report { exit [Compare::report [lindex $argv 0] [lindex $argv 2]] }
    3,--differing { Compare::differing [lindex $argv 0] [lindex $argv 2] }
    default { puts stderr $usage; exit 2 }
}
