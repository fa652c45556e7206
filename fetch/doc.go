// Package fetch reads what certificates point at, over the network: issuers, revocation lists, and the answers of time-stamping
// authorities. Who wrote those pointers is not trusted yet, so nothing of the inside of a network is reached by them.
package fetch
