//! A safe layer over Tcl 8.6.
