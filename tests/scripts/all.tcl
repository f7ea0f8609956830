# all.tcl --
#
#	Runs the tests of the node scripts. The shell that runs this also runs the nodes, unless the environment
#	says otherwise: TOR_SHELL_COORDINATOR, TOR_SHELL_WORKER, TOR_SHELL_CLIENT. TOR_COORDINATOR names another coordinator
#	than the classic one, such as tests/scripts/hosted.tor.
#
#	    tclsh tests/scripts/all.tcl ?-file pattern? ?-match pattern? ...
#
#	Exit code: 0 if no test failed and some ran.

package require Tcl 8.6
package require tcltest 2.3

# In this process: a failed test must show in its exit code. The hook is tcltest's own.
set failed 0
set passed 0
proc tcltest::cleanupTestsHook {} {
    variable numTests
    set ::failed $numTests(Failed)
    set ::passed $numTests(Passed)
}
tcltest::configure -testdir [file dirname [file normalize [info script]]] -singleproc 1 {*}$argv
tcltest::runAllTests
puts "node scripts: $passed passed, $failed failed"
exit [expr {$failed > 0 || $passed == 0 || [llength $tcltest::failFiles] > 0}]
