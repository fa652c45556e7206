// Package keys tests imprint from outside: the executables as make build makes them, each in a process of its own, beside
// emulators of the key services that speak their wire protocols, and beside real tokens and plugins. No test here reaches
// into the product; what steers it are the variables and proxies that its users have.
package keys
