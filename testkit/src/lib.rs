//! A NervesHub to test against, .fw builders and disks that lose power.
