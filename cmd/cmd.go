// Package cmd is the command line of imprint: one file per command.
package cmd

// Main runs imprint with the process's arguments and exits.
func Main() { panic("door") }
