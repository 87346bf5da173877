    // memcpy, memmove and memset; see string.rs. System V calling convention, Intel syntax.
    .text
    // void *memcpy(destination, source, length). Also right if the ranges overlap and the destination is the lower one: the last
    // 16 bytes are read before anything is written, all else goes upwards.
    .balign 16
    .global linnet_memcpy
    .type linnet_memcpy, @function
linnet_memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb linnet_copy_short
    mov r10, [rsi + rdx - 16]
    mov r11, [rsi + rdx - 8]
    cmp rdx, 48
    jbe 6f
    cmp rdx, 64
    jb 3f
    cmp rdx, 512
    jb 2f
    cmp byte ptr [rip + LINNET_FAST_STRINGS], 0
    jne 5f
    .balign 16
2:  mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov r9, [rsi + 16]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + 16], r9
    mov rcx, [rsi + 24]
    mov r8, [rsi + 32]
    mov r9, [rsi + 40]
    mov [rdi + 24], rcx
    mov [rdi + 32], r8
    mov [rdi + 40], r9
    mov rcx, [rsi + 48]
    mov r8, [rsi + 56]
    mov [rdi + 48], rcx
    mov [rdi + 56], r8
    add rsi, 64
    add rdi, 64
    sub rdx, 64
    cmp rdx, 64
    jae 2b
3:  cmp rdx, 16
    jbe 4f
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    add rsi, 16
    add rdi, 16
    sub rdx, 16
    jmp 3b
4:  mov [rdi + rdx - 16], r10
    mov [rdi + rdx - 8], r11
    ret
5:  mov rcx, rdx
    rep movsb
    ret
    // 16 to 48 bytes: the first 16 or 32 and the last 16, which may overlap. All is read before anything is written.
6:  cmp rdx, 32
    ja 7f
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + rdx - 16], r10
    mov [rdi + rdx - 8], r11
    ret
7:  mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov r9, [rsi + 16]
    mov rsi, [rsi + 24]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + 16], r9
    mov [rdi + 24], rsi
    mov [rdi + rdx - 16], r10
    mov [rdi + rdx - 8], r11
    ret

    // Fewer than 16 bytes, overlapping in any way: all is read before anything is written.
    .balign 16
linnet_copy_short:
    cmp edx, 8
    jae 2f
    cmp edx, 4
    jae 3f
    cmp edx, 1
    ja 4f
    jb 5f
    movzx ecx, byte ptr [rsi]
    mov [rdi], cl
5:  ret
2:  mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
3:  mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
4:  movzx ecx, word ptr [rsi]
    movzx r8d, word ptr [rsi + rdx - 2]
    mov [rdi], cx
    mov [rdi + rdx - 2], r8w
    ret

    // void *memmove(destination, source, length)
    .balign 16
    .global linnet_memmove
    .type linnet_memmove, @function
linnet_memmove:
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae linnet_memcpy
    mov rax, rdi
    cmp rdx, 16
    jb linnet_copy_short
    // The destination is the higher one and they overlap: downwards, with the first 16 bytes read at the start.
    mov r10, [rsi]
    mov r11, [rsi + 8]
    cmp rdx, 32
    jb 3f
    .balign 16
2:  mov rcx, [rsi + rdx - 8]
    mov r8, [rsi + rdx - 16]
    mov r9, [rsi + rdx - 24]
    mov [rdi + rdx - 8], rcx
    mov [rdi + rdx - 16], r8
    mov [rdi + rdx - 24], r9
    mov rcx, [rsi + rdx - 32]
    mov [rdi + rdx - 32], rcx
    sub rdx, 32
    cmp rdx, 32
    jae 2b
3:  cmp rdx, 16
    jbe 4f
    mov rcx, [rsi + rdx - 8]
    mov [rdi + rdx - 8], rcx
    sub rdx, 8
    jmp 3b
4:  mov [rdi], r10
    mov [rdi + 8], r11
    ret

    // void *memset(destination, byte, length)
    .balign 16
    .global linnet_memset
    .type linnet_memset, @function
linnet_memset:
    mov rax, rdi
    movzx ecx, sil
    movabs r8, 0x0101010101010101
    imul r8, rcx
    cmp rdx, 16
    jb 6f
    cmp rdx, 64
    jb 3f
    cmp rdx, 512
    jb 2f
    cmp byte ptr [rip + LINNET_FAST_STRINGS], 0
    jne 5f
    .balign 16
2:  mov [rdi], r8
    mov [rdi + 8], r8
    mov [rdi + 16], r8
    mov [rdi + 24], r8
    mov [rdi + 32], r8
    mov [rdi + 40], r8
    mov [rdi + 48], r8
    mov [rdi + 56], r8
    add rdi, 64
    sub rdx, 64
    cmp rdx, 64
    jae 2b
    // At least 64 bytes lie before: what is left may be written with some of them again.
3:  cmp rdx, 16
    jbe 4f
    mov [rdi], r8
    mov [rdi + 8], r8
    add rdi, 16
    sub rdx, 16
    jmp 3b
4:  mov [rdi + rdx - 16], r8
    mov [rdi + rdx - 8], r8
    ret
5:  mov r9, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r9
    ret
6:  cmp edx, 8
    jae 7f
    cmp edx, 4
    jae 8f
    test edx, edx
    jz 9f
    mov [rdi], r8b
    mov [rdi + rdx - 1], r8b
    cmp edx, 3
    jne 9f
    mov [rdi + 1], r8b
9:  ret
7:  mov [rdi], r8
    mov [rdi + rdx - 8], r8
    ret
8:  mov [rdi], r8d
    mov [rdi + rdx - 4], r8d
    ret
