//! Four results of one expression: written out, because a compiler that is asked for small code keeps loops of four.

macro_rules! four {
    (|$($argument:ident),+| $result:expr) => {
        [
            $crate::kernels::four::four!(@ 0, [$($argument),+] $result),
            $crate::kernels::four::four!(@ 1, [$($argument),+] $result),
            $crate::kernels::four::four!(@ 2, [$($argument),+] $result),
            $crate::kernels::four::four!(@ 3, [$($argument),+] $result),
        ]
    };
    (@ $index:literal, [$($argument:ident),+] $result:expr) => {{
        $(let $argument = $argument[$index];)+
        $result
    }};
}

pub(super) use four;
